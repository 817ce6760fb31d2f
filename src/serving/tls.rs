//! Which TLS is spoken: versions, cipher suites, key exchanges. Without settings, what rustls has, which is all modern.

use rustls::{
    ALL_VERSIONS, NamedGroup, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    version::TLS13,
};
use thiserror::Error;

/// How TLS is restricted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Whether TLS 1.2 is refused.
    pub only_tls13: bool,
    /// Cipher suites of TLS 1.2, by their IANA names; all where empty. Those of TLS 1.3 are always on, as in Go.
    pub cipher_suites: Vec<String>,
    /// Key exchanges, by their IANA numbers; all where empty. Which of them is taken is up to the client.
    pub key_exchanges: Vec<u16>,
}

/// What is not known here.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TlsOptionsError {
    /// A cipher suite.
    #[error("cipher suite {name:?} is not offered; offered are {}", offered.join(", "))]
    CipherSuite {
        /// Its name.
        name: String,
        /// Those that are.
        offered: Vec<String>,
    },
    /// A key exchange.
    #[error("key exchange {number} is not offered; offered are {}", offered.join(", "))]
    KeyExchange {
        /// Its number.
        number: u16,
        /// Those that are.
        offered: Vec<String>,
    },
}

impl TlsOptions {
    pub(super) fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        static ONLY_TLS13: [&SupportedProtocolVersion; 1] = [&TLS13];
        if self.only_tls13 { &ONLY_TLS13 } else { ALL_VERSIONS }
    }

    /// The cryptography that is left.
    ///
    /// # Errors
    /// When something is asked for that there is not.
    pub(super) fn provider(&self) -> Result<CryptoProvider, TlsOptionsError> {
        let mut provider = aws_lc_rs::default_provider();
        self.restrict_cipher_suites(&mut provider)?;
        self.restrict_key_exchanges(&mut provider)?;
        Ok(provider)
    }

    fn restrict_cipher_suites(&self, provider: &mut CryptoProvider) -> Result<(), TlsOptionsError> {
        // rustls calls those of TLS 1.3 TLS13_….
        let name_of = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
        let offered: Vec<String> = provider.cipher_suites.iter().map(name_of).collect();
        if let Some(name) = self.cipher_suites.iter().find(|name| !offered.contains(name)) {
            return Err(TlsOptionsError::CipherSuite { name: name.clone(), offered });
        }
        if !self.cipher_suites.is_empty() {
            let is_meant = |suite: &rustls::SupportedCipherSuite| {
                suite.version() == &TLS13 || self.cipher_suites.contains(&name_of(suite))
            };
            provider.cipher_suites.retain(is_meant);
        }
        Ok(())
    }

    fn restrict_key_exchanges(&self, provider: &mut CryptoProvider) -> Result<(), TlsOptionsError> {
        if self.key_exchanges.is_empty() {
            return Ok(());
        }
        let all = aws_lc_rs::ALL_KX_GROUPS;
        if let Some(number) =
            self.key_exchanges.iter().find(|number| all.iter().all(|kx| kx.name() != NamedGroup::from(**number)))
        {
            let offered = all.iter().map(|kx| format!("{} ({:?})", u16::from(kx.name()), kx.name())).collect();
            return Err(TlsOptionsError::KeyExchange { number: *number, offered });
        }
        let is_meant = |name: NamedGroup| self.key_exchanges.contains(&u16::from(name));
        provider.kx_groups = all.iter().copied().filter(|kx| is_meant(kx.name())).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(options: &TlsOptions) -> Vec<String> {
        options.provider().unwrap().cipher_suites.iter().map(|suite| format!("{:?}", suite.suite())).collect()
    }

    #[test]
    fn cipher_suites_of_tls_1_2_are_restricted_and_those_of_1_3_stay() {
        let all = names(&TlsOptions::default());
        let one = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".to_owned();
        let restricted = names(&TlsOptions { cipher_suites: vec![one.clone()], ..TlsOptions::default() });
        let of_13: Vec<String> = all.iter().filter(|name| name.starts_with("TLS13_")).cloned().collect();
        assert_eq!(of_13.len(), 3);
        assert_eq!(restricted, [of_13.clone(), vec![one]].concat());
        let only_13 = TlsOptions { cipher_suites: vec!["TLS_AES_128_GCM_SHA256".to_owned()], ..TlsOptions::default() };
        assert_eq!(names(&only_13), of_13);
    }

    #[test]
    fn key_exchanges_are_those_of_the_numbers() {
        let numbers = |key_exchanges: &[u16]| {
            let options = TlsOptions { key_exchanges: key_exchanges.to_vec(), ..TlsOptions::default() };
            let mut numbers: Vec<u16> =
                options.provider().unwrap().kx_groups.iter().map(|kx| u16::from(kx.name())).collect();
            numbers.sort_unstable();
            numbers
        };
        assert_eq!(numbers(&[29, 23]), [23, 29]);
        assert_eq!(numbers(&[4588]), [4588]);
        assert!(numbers(&[]).len() >= 3);
    }

    #[test]
    fn what_is_not_offered_is_named_beside_what_is() {
        let suite = "TLS_RSA_WITH_AES_128_CBC_SHA".to_owned();
        let error = TlsOptions { cipher_suites: vec![suite.clone()], ..TlsOptions::default() }.provider().unwrap_err();
        let error = error.to_string();
        assert!(error.contains(&suite) && error.contains("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"), "{error}");
        let error = TlsOptions { key_exchanges: vec![25], ..TlsOptions::default() }.provider();
        assert!(error.is_err_and(|error| error.to_string().contains("29 (X25519)")));
    }
}
