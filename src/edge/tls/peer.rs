//! What a certificate says: its names and its end.
//!
//! Nothing is verified here; rustls has done that. Callers: `tls` for our own certificate, `accept` for clients'.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::access::PeerCertificate;

/// A certificate that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate that is not well-formed X.509")]
pub(in crate::edge) struct BadCertificate;

/// Reads a client's certificate.
pub(in crate::edge) fn certificate(der: &CertificateDer<'_>) -> Result<PeerCertificate, BadCertificate> {
    let certificate = parse(der)?;
    let names = certificate.subject_alternative_name().map_err(|_| BadCertificate)?;
    let names = names.into_iter().flat_map(|extension| &extension.value.general_names).filter_map(name).collect();
    Ok(PeerCertificate { names, expires_at: end(&certificate) })
}

/// When a certificate ends.
pub(super) fn expires_at(der: &CertificateDer<'_>) -> Result<SystemTime, BadCertificate> {
    Ok(end(&parse(der)?))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, BadCertificate> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| BadCertificate)?;
    Ok(certificate)
}

fn end(certificate: &X509Certificate<'_>) -> SystemTime {
    // Before 1970 is long ago whatever the year.
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A name as `kind:value`; kinds that nobody could be known by are left out.
fn name(name: &GeneralName<'_>) -> Option<Arc<str>> {
    let name = match name {
        GeneralName::URI(uri) => format!("uri:{uri}"),
        // Names of hosts are the same in any case.
        GeneralName::DNSName(host) => format!("dns:{}", host.to_ascii_lowercase()),
        GeneralName::RFC822Name(address) => format!("email:{address}"),
        GeneralName::IPAddress(bytes) => {
            let address = match <[u8; 4]>::try_from(*bytes) {
                Ok(v4) => IpAddr::from(v4),
                Err(_) => IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?),
            };
            format!("ip:{address}")
        }
        _ => return None,
    };
    Some(name.into())
}
