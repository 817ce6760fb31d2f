//! Addresses for pods: loopback, one each.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::net::TcpListener;

/// 127.0.0.0/16 is left to everybody else.
const FIRST: u32 = Ipv4Addr::new(127, 1, 0, 1).to_bits();
const LAST: u32 = Ipv4Addr::new(127, 255, 255, 254).to_bits();
/// More than the pods of any test bed; a port that is taken on so many addresses is taken on all.
const ATTEMPTS: u32 = 4096;

/// Hands out the addresses 127.1.0.1 to 127.255.255.254 in turn.
#[derive(Debug)]
pub(super) struct LoopbackAddresses(AtomicU32);

impl LoopbackAddresses {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Listens on `port` of `preferred`, or else of the next address where that port is free.
    pub(super) async fn listen(&self, preferred: Option<IpAddr>, port: u16) -> io::Result<TcpListener> {
        if let Some(address) = preferred.filter(IpAddr::is_loopback)
            && let Ok(listener) = TcpListener::bind((address, port)).await
        {
            return Ok(listener);
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            match TcpListener::bind((self.next(), port)).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < ATTEMPTS => {}
                result => return result,
            }
        }
    }

    fn next(&self) -> Ipv4Addr {
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        Ipv4Addr::from_bits(FIRST + turn % (LAST - FIRST + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pods_with_the_same_port_get_addresses_of_their_own_outside_the_first_block() {
        let addresses = LoopbackAddresses::new();
        let first = addresses.listen(None, 0).await.unwrap();
        // A port that is taken on one address only.
        let port = first.local_addr().unwrap().port();
        let again = LoopbackAddresses::new();
        let second = again.listen(None, port).await.unwrap();
        let (first, second) = (first.local_addr().unwrap().ip(), second.local_addr().unwrap().ip());
        assert_ne!(first, second, "the taken address is passed over");
        for address in [first, second] {
            assert!(address.is_loopback() && !address.to_string().starts_with("127.0."), "{address}");
        }
    }

    #[tokio::test]
    async fn a_preferred_address_is_kept_if_it_is_a_free_loopback_address() {
        let addresses = LoopbackAddresses::new();
        let kept = addresses.listen(Some(Ipv4Addr::new(127, 9, 9, 9).into()), 0).await.unwrap();
        assert_eq!(kept.local_addr().unwrap().ip(), Ipv4Addr::new(127, 9, 9, 9));
        let foreign = addresses.listen(Some(Ipv4Addr::UNSPECIFIED.into()), 0).await.unwrap();
        assert!(foreign.local_addr().unwrap().ip().is_loopback());
    }
}
