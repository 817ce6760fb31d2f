//! A certificate authority for tests.

use std::net::{Ipv4Addr, SocketAddr};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

use crate::serving::Peer;

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A client certificate.
    pub(super) fn client(&self, common_name: &str, organization: Option<&str>) -> CertificateDer<'static> {
        self.issue(common_name, organization, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// A client certificate that is no longer valid.
    pub(super) fn expired(&self, common_name: &str) -> CertificateDer<'static> {
        self.issue(common_name, None, |params| params.not_after = date_time_ymd(2020, 1, 1))
    }

    /// A certificate for servers only.
    pub(super) fn server(&self, common_name: &str) -> CertificateDer<'static> {
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

/// A peer that sent `certificates`.
pub(super) fn peer(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Peer {
    Peer::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), certificates.into_iter().collect())
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
