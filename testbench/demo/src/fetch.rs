//! `tandem-demo fetch`: one file by URL over a device of choice.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use thiserror::Error;

use crate::nic::Model;
use crate::peer;
use crate::transfer::{Carrier, Link, TAP};

/// Options of `fetch`.
#[derive(Debug, Args)]
pub struct Fetch {
    /// http://ADDRESS[:PORT]/PATH; the address as numbers, an IPv6 one in brackets.
    pub url: Url,
    /// What carries it: tap:NAME for a TAP of that name, or rtl or reference for a NIC on a TAP.
    #[arg(long, default_value = "tap:td0")]
    pub device: DeviceChoice,
    /// Make the TAP in a network namespace of our own instead of the one we are in.
    #[arg(long)]
    pub isolated: bool,
    /// Seconds to wait for an answer.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub timeout: u64,
}

/// A URL as far as it is understood here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Server.
    pub server: SocketAddr,
    /// Path with its leading slash.
    pub path: String,
}

/// Why something is no [`Url`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Not http.
    #[error("it does not begin with http://")]
    Scheme,
    /// Not an address.
    #[error(
        "{0:?} is no address: write 10.77.0.1, 10.77.0.1:8080, [fd77::1] or [fd77::1]:8080 \
         (names are not looked up)"
    )]
    Address(String),
    /// Would break the request.
    #[error("the path has a blank or a control character in it")]
    Path,
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = text.strip_prefix("http://").ok_or(UrlError::Scheme)?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let server = host
            .parse()
            .or_else(|_| format!("{host}:80").parse())
            .map_err(|_| UrlError::Address(host.to_owned()))?;
        if path.bytes().any(|byte| byte <= b' ' || byte == 0x7F) {
            return Err(UrlError::Path);
        }
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { server, path: path.to_owned() })
    }
}

/// What carries the transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A TAP by name.
    Tap(String),
    /// A NIC on the TAP [`TAP`].
    Nic(Model),
}

/// Not a device.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there are tap:NAME, rtl and reference")]
pub struct NoSuchDevice;

impl FromStr for DeviceChoice {
    type Err = NoSuchDevice;

    fn from_str(text: &str) -> Result<Self, NoSuchDevice> {
        match (text, text.strip_prefix("tap:")) {
            ("rtl", _) => Ok(Self::Nic(Model::Rtl)),
            ("reference", _) => Ok(Self::Nic(Model::Reference)),
            (_, Some(name)) => Ok(Self::Tap(name.to_owned())),
            _ => Err(NoSuchDevice),
        }
    }
}

/// Fetches.
///
/// # Errors
/// One line that says what failed and what to do about it.
pub fn run(options: &Fetch) -> Result<()> {
    if options.isolated {
        peer::enter_namespace()?;
    }
    let (carrier, tap) = match &options.device {
        DeviceChoice::Tap(name) => (Carrier::Tap, name.as_str()),
        DeviceChoice::Nic(model) => (Carrier::nic(*model, true), TAP),
    };
    let mut link = Link::on_tap(&carrier, tap)?;
    let patience = Duration::from_secs(options.timeout);
    let fetched = link.get(options.url.server, &options.url.path, patience, None)?;
    let bytes = fetched.response.got();
    ensure!(bytes > 0, "{} has nothing at {}", options.url.server, options.url.path);
    let hash: String = fetched.response.sha256().iter().map(|byte| format!("{byte:02x}")).collect();
    println!(
        "{bytes} bytes, sha256 {hash}, {} segments sent again, {:.3} s of real time",
        fetched.retransmissions, fetched.took_s
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_devices() {
        let url = |text: &str| Url::from_str(text);
        let at = |text: &str| url(text).map(|url| (url.server.to_string(), url.path));
        assert_eq!(at("http://10.0.0.1/a"), Ok(("10.0.0.1:80".into(), "/a".into())));
        assert_eq!(at("http://[fd77::1]:8080"), Ok(("[fd77::1]:8080".into(), "/".into())));
        assert_eq!(url("10.0.0.1/a"), Err(UrlError::Scheme));
        assert_eq!(url("http://example/"), Err(UrlError::Address("example".into())));
        assert_eq!(url("http://10.0.0.1:99999/"), Err(UrlError::Address("10.0.0.1:99999".into())));
        assert_eq!(url("http://10.0.0.1/a b"), Err(UrlError::Path));
        assert_eq!("tap:x".parse(), Ok(DeviceChoice::Tap("x".into())));
        assert_eq!("veth".parse::<DeviceChoice>(), Err(NoSuchDevice));
    }
}
