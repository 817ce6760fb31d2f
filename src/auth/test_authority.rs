//! A certificate authority for tests.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

use super::TrustBundle;
use crate::serving::Peer;

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let params = authority_params(name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A client certificate.
    pub(crate) fn client(&self, common_name: &str, organization: Option<&str>) -> CertificateDer<'static> {
        self.issue(common_name, organization, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// A client certificate that is no longer valid.
    pub(crate) fn expired(&self, common_name: &str) -> CertificateDer<'static> {
        self.issue(common_name, None, |params| params.not_after = date_time_ymd(2020, 1, 1))
    }

    /// A client certificate that is valid for this long.
    pub(crate) fn expiring(&self, common_name: &str, time_left: Duration) -> CertificateDer<'static> {
        self.issue(common_name, None, |params| params.not_after = (SystemTime::now() + time_left).into())
    }

    /// An authority under this one that is valid for this long, and its certificate.
    pub(crate) fn intermediate(&self, name: &str, time_left: Duration) -> (Self, CertificateDer<'static>) {
        let mut params = authority_params(name);
        params.not_after = (SystemTime::now() + time_left).into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (Self { issuer: Issuer::new(params, key), pem: certificate.pem() }, certificate.der().clone())
    }

    /// A certificate for servers only.
    pub(crate) fn server(&self, common_name: &str) -> CertificateDer<'static> {
        self.issue(common_name, None, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    fn issue(
        &self,
        common_name: &str,
        organization: Option<&str>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(common_name, organization);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.issuer).unwrap().der().clone()
    }
}

/// The authorities of users and of front proxies, as kube-apiserver publishes them.
pub(crate) fn trust_bundle(users: &Authority, front_proxies: &Authority) -> TrustBundle {
    let data = [
        ("client-ca-file", users.pem.as_str()),
        ("requestheader-client-ca-file", &front_proxies.pem),
        ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
        ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
    ];
    let data: BTreeMap<_, _> = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    TrustBundle::from_config_map(&data).unwrap()
}

/// A peer that sent `certificates`.
pub(crate) fn peer(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Peer {
    Peer::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), certificates.into_iter().collect())
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(name, None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn distinguished_name(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if !common_name.is_empty() {
        name.push(DnType::CommonName, common_name);
    }
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name
}
