//! By what a request was authenticated, kept so that the next one of its connection that comes with the very same need not
//! be looked at again. Whatever is in doubt is looked at again.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, ACCEPT_ENCODING, USER_AGENT},
};
use rustls_pki_types::UnixTime;
use tokio::time::Instant;

use super::{FrontProxy, Subject, Trust, TrustBundle};

/// Headers that differ between requests of one user and say nothing of who asks. All others must be the same, those that
/// nobody knows included.
const TALK: [HeaderName; 13] = [
    ACCEPT,
    USER_AGENT,
    ACCEPT_ENCODING,
    HeaderName::from_static("audit-id"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-uri"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
    HeaderName::from_static("kubectl-command"),
    HeaderName::from_static("kubectl-session"),
];
/// Bytes of headers that are kept; who sends more is looked at each time.
const LONGEST: usize = 4096;

/// A certificate and headers that somebody was authenticated by. It holds for requests on the connection of that certificate
/// alone.
#[derive(Clone, Debug)]
pub struct Vouched {
    trust: Arc<TrustBundle>,
    subject: Arc<Subject>,
    /// In the order in which they came, but for [`TALK`].
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Vouched {
    /// `None` where it is not to be kept: `headers` are long, or a front proxy of `trust` speaks in what is taken for talk.
    pub(super) fn new(trust: &Arc<TrustBundle>, subject: &Arc<Subject>, headers: &HeaderMap) -> Option<Self> {
        let speaks_in_talk = |proxy: &FrontProxy| TALK.iter().any(|name| proxy.speaks_in(name));
        if trust.front_proxy.as_ref().is_some_and(speaks_in_talk) {
            return None;
        }
        let telling = || headers.iter().filter(|(name, _)| !TALK.contains(name));
        let length: usize = telling().map(|(name, value)| name.as_str().len() + value.len()).sum();
        // Copies: a header of HTTP/2 holds on to the frame that it came in.
        let copy = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).ok();
        let kept = telling().map(|(name, value)| Some((name.clone(), copy(value)?)));
        let headers = (length <= LONGEST).then(|| kept.collect::<Option<_>>())??;
        Some(Self { trust: Arc::clone(trust), subject: Arc::clone(subject), headers })
    }

    /// The certificate, if a request with `headers` on its connection is by the same credentials still: the authorities are
    /// those that it was verified by, it has not expired, and what the headers say of their author is the same to the byte.
    pub(super) fn holds(
        &self,
        trust: &Trust,
        headers: &HeaderMap,
        now: Instant,
        date: UnixTime,
    ) -> Option<&Arc<Subject>> {
        let holds = now < self.subject.accepted_until
            && date <= self.subject.not_after
            && trust.is_current(&self.trust)
            && self.is_told_by(headers);
        holds.then_some(&self.subject)
    }

    fn is_told_by(&self, headers: &HeaderMap) -> bool {
        let mut kept = self.headers.iter();
        let mut next = kept.next();
        for (name, value) in headers {
            match next {
                Some((of, expected)) if of == name => {
                    if value != expected {
                        return false;
                    }
                    next = kept.next();
                }
                _ if TALK.contains(name) => {}
                _ => return false,
            }
        }
        next.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::auth::{
        CertificateAuthority,
        test_authority::{Authority, peer},
    };

    fn bundle(authority: &Authority, username_header: &str) -> Arc<TrustBundle> {
        let data = [
            ("requestheader-client-ca-file", authority.pem.clone()),
            ("requestheader-username-headers", format!("[{username_header:?}]")),
            ("requestheader-extra-headers-prefix", "[\"X-Remote-Extra-\"]".to_owned()),
        ];
        let data: BTreeMap<_, _> = data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Arc::new(TrustBundle::from_config_map(&data).unwrap())
    }

    fn subject(authority: &Authority) -> Arc<Subject> {
        let trusted = CertificateAuthority::from_pem(&authority.pem).unwrap();
        let peer = peer([authority.expiring("front-proxy-client", Duration::from_secs(30))]);
        trusted.verify(&peer.certificates, UnixTime::now()).unwrap()
    }

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    }

    const ALICE: [(&str, &str); 6] = [
        ("accept", "application/json"),
        ("x-remote-user", "alice"),
        ("x-remote-group", "a"),
        ("audit-id", "1"),
        ("x-remote-group", "b"),
        ("x-remote-extra-scopes", "c"),
    ];

    #[test]
    fn headers_that_differ_in_any_way_are_looked_at() {
        let authority = Authority::new("front-proxy-ca");
        let trusted = bundle(&authority, "X-Remote-User");
        let trust = Trust::from(Arc::clone(&trusted));
        let vouched = Vouched::new(&trusted, &subject(&authority), &headers(&ALICE)).unwrap();
        let holds = |of: &[(&'static str, &str)]| {
            vouched.holds(&trust, &headers(of), Instant::now(), UnixTime::now()).is_some()
        };
        let changed = |index: usize, name: &'static str, value: &'static str| {
            let mut changed = ALICE.to_vec();
            changed[index] = (name, value);
            changed
        };
        let with = |name: &'static str, value: &'static str| [ALICE.to_vec(), vec![(name, value)]].concat();
        let without = |index: usize| {
            let mut fewer = ALICE.to_vec();
            fewer.remove(index);
            fewer
        };
        let in_order = |order: [usize; 6]| order.map(|index| ALICE[index]).to_vec();
        for (case, headers, expected) in [
            ("the same", ALICE.to_vec(), true),
            ("another audit id", changed(3, "audit-id", "2"), true),
            ("no audit id", without(3), true),
            ("another media type", changed(0, "accept", "*/*"), true),
            ("a trace", with("traceparent", "00-1-1-01"), true),
            ("another user", changed(1, "x-remote-user", "bob"), false),
            ("another case", changed(1, "x-remote-user", "Alice"), false),
            ("a longer name", changed(1, "x-remote-user", "alice2"), false),
            ("no user", without(1), false),
            ("a second user behind", with("x-remote-user", "root"), false),
            ("a second user before", [vec![("x-remote-user", "root")], ALICE.to_vec()].concat(), false),
            ("another group", changed(2, "x-remote-group", "system:masters"), false),
            ("one more group", with("x-remote-group", "system:masters"), false),
            ("one group less", without(4), false),
            ("groups in another order", in_order([0, 1, 4, 3, 2, 5]), false),
            ("groups before the user", in_order([0, 2, 4, 1, 3, 5]), false),
            ("another extra", changed(5, "x-remote-extra-scopes", "d"), false),
            ("another key", changed(5, "x-remote-extra-other", "c"), false),
            ("a UID", with("x-remote-uid", "1"), false),
            ("a token", with("authorization", "Bearer t"), false),
            ("an impersonation", with("impersonate-user", "root"), false),
            ("something that nobody knows", with("x-new", "1"), false),
            ("nothing", vec![], false),
        ] {
            assert_eq!(holds(&headers), expected, "{case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_its_authorities_and_with_its_certificate() {
        let authority = Authority::new("front-proxy-ca");
        let trusted = bundle(&authority, "X-Remote-User");
        let trust = Trust::from(Arc::clone(&trusted));
        let (subject, alice) = (subject(&authority), headers(&ALICE));
        let vouched = Vouched::new(&trusted, &subject, &alice).unwrap();
        let holds = |date: UnixTime| vouched.holds(&trust, &alice, Instant::now(), date).is_some();
        let expired = UnixTime::since_unix_epoch(Duration::from_secs(subject.not_after.as_secs() + 1));
        assert!(holds(UnixTime::now()));
        assert!(!holds(expired), "by the calendar");

        trust.replace(TrustBundle::clone(&trusted));
        assert!(!holds(UnixTime::now()), "equal authorities that were published anew are others");
        let trust = Trust::from(trusted);
        let holds = |date: UnixTime| vouched.holds(&trust, &alice, Instant::now(), date).is_some();
        assert!(holds(UnixTime::now()));
        tokio::time::advance(Duration::from_secs(31)).await;
        assert!(!holds(UnixTime::now()), "by the time since it was verified");
    }

    #[test]
    fn what_is_long_or_told_in_headers_that_are_taken_for_talk_is_not_kept() {
        let authority = Authority::new("front-proxy-ca");
        let subject = subject(&authority);
        let usual = bundle(&authority, "X-Remote-User");
        assert!(Vouched::new(&usual, &subject, &headers(&ALICE)).is_some());
        let long = "x".repeat(LONGEST);
        assert!(Vouched::new(&usual, &subject, &headers(&[("x-remote-user", &long)])).is_none());
        assert!(Vouched::new(&usual, &subject, &headers(&[("x-remote-user", "a"), ("user-agent", &long)])).is_some());
        for name in ["User-Agent", "Audit-Id", "X-Forwarded-For"] {
            assert!(Vouched::new(&bundle(&authority, name), &subject, &headers(&ALICE)).is_none(), "{name}");
        }
    }
}
