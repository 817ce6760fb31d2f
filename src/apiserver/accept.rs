//! Content negotiation: the `Accept` header against what can be written.
//!
//! Kubernetes puts the wanted *shape* of a document into media type parameters: `as`, `g` and `v`. A clause that asks for a
//! shape nobody offers is skipped; unknown parameters (such as `profile`) are ignored.

use http::{HeaderMap, header::ACCEPT};

use super::status::ApiError;

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Kubernetes protobuf.
    Protobuf,
    /// As a [`super::wire::Table`], in JSON.
    Table,
}

/// A representation that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// Its media type without parameters, in lower case.
    pub(super) media_type: &'static str,
    /// Its shape, if not the plain document's: values of `as`, `g` and `v`.
    pub(super) shape: Option<[&'static str; 3]>,
    /// `Content-Type` of the answer: clients compare it whole, so without a charset.
    pub(super) content_type: &'static str,
    /// How it is written.
    pub(super) encoding: Encoding,
}

const fn plain(media_type: &'static str, encoding: Encoding) -> Offer {
    Offer { media_type, shape: None, content_type: media_type, encoding }
}

/// The plain document in JSON.
pub(super) const JSON: Offer = plain("application/json", Encoding::Json);
/// The plain document in YAML.
pub(super) const YAML: Offer = plain("application/yaml", Encoding::Yaml);
/// The plain document in protobuf.
pub(super) const PROTOBUF: Offer = plain("application/vnd.kubernetes.protobuf", Encoding::Protobuf);
/// A table for people.
pub(super) const TABLE: Offer = Offer {
    media_type: "application/json",
    shape: Some(["Table", "meta.k8s.io", "v1"]),
    content_type: "application/json;as=Table;v=v1;g=meta.k8s.io",
    encoding: Encoding::Table,
};

/// What most documents are offered in; JSON is for clients that do not say.
pub(super) const PLAIN: [Offer; 3] = [JSON, YAML, PROTOBUF];

/// The offer the client likes best; the first one when it says nothing.
///
/// # Errors
/// When it accepts none of them.
pub(super) fn negotiate<'a>(headers: &HeaderMap, offers: &'a [Offer]) -> Result<&'a Offer, ApiError> {
    if let Some(offer) = first_choice(headers, offers) {
        return Ok(offer);
    }
    let mut clauses: Vec<Clause<'_>> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(Clause::parse)
        .collect();
    if clauses.is_empty() {
        clauses.extend(Clause::parse("*/*"));
    }
    clauses.retain(|clause| clause.quality > 0.0);
    // Stable: among equals the client's order counts.
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    let best = clauses.iter().find_map(|clause| offers.iter().find(|offer| clause.accepts(offer)));
    best.ok_or_else(|| {
        // Shapes are not media types of their own.
        let plain = offers.iter().filter(|offer| offer.shape.is_none());
        let media_types: Vec<_> = plain.map(|offer| offer.media_type).collect();
        ApiError::NotAcceptable(media_types.join(", "))
    })
}

/// The offer that the first clause names without parameters, which is how most clients ask: no other can be liked better,
/// and among equals the client's order counts.
fn first_choice<'a>(headers: &HeaderMap, offers: &'a [Offer]) -> Option<&'a Offer> {
    let clauses = headers.get(ACCEPT)?.to_str().ok()?;
    let first = clauses.split_once(',').map_or(clauses, |(first, _)| first).trim();
    offers.iter().find(|offer| offer.shape.is_none() && first.eq_ignore_ascii_case(offer.media_type))
}

struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    shape: Option<[&'a str; 3]>,
    quality: f32,
}

impl<'a> Clause<'a> {
    /// `None` for what is not a media range.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let (mut quality, mut shape_as, mut group, mut version) = (1.0, None, "", "");
        for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
            let value = value.trim_matches('"');
            match name.to_ascii_lowercase().as_str() {
                "q" => quality = value.parse::<f32>().ok().filter(|quality| quality.is_finite())?,
                "as" => shape_as = Some(value),
                "g" => group = value,
                "v" => version = value,
                _ => {}
            }
        }
        Some(Self { kind, subtype, shape: shape_as.map(|shape| [shape, group, version]), quality })
    }

    fn accepts(&self, offer: &Offer) -> bool {
        let Some((kind, subtype)) = offer.media_type.split_once('/') else { return false };
        let fits = |wanted: &str, offered: &str| wanted == "*" || wanted.eq_ignore_ascii_case(offered);
        fits(self.kind, kind) && fits(self.subtype, subtype) && self.shape == offer.shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, value.parse().unwrap())])
    }

    #[test]
    fn the_best_liked_offer_wins() {
        for (header, expected) in [
            ("", Some(&JSON)),
            ("*/*", Some(&JSON)),
            ("application/*", Some(&JSON)),
            ("Application/JSON", Some(&JSON)),
            ("application/vnd.kubernetes.protobuf, */*", Some(&JSON)),
            ("application/json;profile=nopeer", Some(&JSON)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Some(&TABLE)),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Some(&JSON)),
            ("application/json;q=0.5,application/json;g=meta.k8s.io;v=v1;as=Table", Some(&TABLE)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io;q=0.1,application/json;q=0.2", Some(&JSON)),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", None),
            ("application/yaml", None),
            ("application/json;q=0", None),
            ("application/cbor,text/html", None),
        ] {
            let chosen = negotiate(&accept(header), &[JSON, TABLE]).ok();
            assert_eq!(chosen, expected, "{header}");
        }
        assert_eq!(negotiate(&HeaderMap::new(), &[JSON, TABLE]).unwrap(), &JSON);
    }

    #[test]
    fn what_would_be_accepted_is_said_once() {
        let error = negotiate(&accept("application/yaml"), &[JSON, TABLE]).unwrap_err();
        assert_eq!(error.to_string(), "only the following media types are accepted: application/json");
    }
}
