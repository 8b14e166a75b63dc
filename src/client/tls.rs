//! Why there is no secure connection, as a sentence.
//!
//! tonic hides the errors of TLS in a chain of others; here they are found again. A wrong guess changes one sentence. Caller:
//! `error`.

use std::error::Error;
use std::io;

use rustls::{CertificateError, InvalidMessage};
use tonic::Status;

/// Why the two ends do not agree, where that is why the call failed and trying again is in vain.
pub(super) fn refusal(endpoint: &str, status: &Status) -> Option<String> {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(error) = tls_error(error) {
            return sentence(error);
        }
        // In TLS 1.3 a gateway refuses a client's certificate after the client has begun to use the connection; by then only
        // the error's words are left.
        if let Some((_, alert)) = error.to_string().split_once("received fatal alert: ") {
            return alert_sentence(alert.trim());
        }
        let is_https = endpoint.starts_with("https://");
        // An alert of TLS where a frame was expected.
        if !is_https && error.to_string().contains("frame with invalid size") {
            return Some(
                "it does not speak HTTP/2 in the clear; where it speaks TLS, the endpoint begins with https://".into(),
            );
        }
        if is_https && error.to_string().contains("tls handshake eof") {
            return Some(CLOSED.into());
        }
        source = error.source();
    }
    None
}

const CLOSED: &str = "it closed the connection in the middle of the TLS handshake; where it speaks no TLS, the endpoint begins with http://";

/// rustls' own error: as it is, or in one of input and output.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let inner = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
    error.downcast_ref().or_else(|| inner.and_then(|inner| inner.downcast_ref()))
}

fn sentence(error: &rustls::Error) -> Option<String> {
    use rustls::Error as Tls;
    Some(match error {
        Tls::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => {
                "its certificate is of an authority that is not trusted here; expected one of the platform's, or a CA file".into()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired".into(),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet".into()
            }
            CertificateError::NotValidForName => "its certificate is for another name".into(),
            CertificateError::NotValidForNameContext { expected, presented } => format!(
                "its certificate is for another name: {}; expected {}",
                presented.join(", "),
                expected.to_str()
            ),
            other => format!("its certificate is not good ({other})"),
        },
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS; the endpoint of a gateway without begins with http://".into()
        }
        Tls::AlertReceived(alert) => return alert_sentence(&format!("{alert:?}")),
        Tls::PeerIncompatible(why) => format!("it has no version or cipher of TLS in common with this client ({why:?})"),
        _ => return None,
    })
}

/// What the gateway complains of, by rustls' name of the alert.
fn alert_sentence(alert: &str) -> Option<String> {
    Some(match alert {
        "CertificateRequired" => "it asks for a client certificate".into(),
        "UnknownCA" => "it does not trust the authority of the client certificate".into(),
        "CertificateExpired" => "the client certificate has expired".into(),
        "BadCertificate" | "CertificateUnknown" | "CertificateRevoked" | "UnsupportedCertificate" | "AccessDenied" => {
            format!("it does not take the client certificate ({alert})")
        }
        "DecryptError" => {
            "it cannot verify the client certificate: it is of another authority, or its key is another's".into()
        }
        "NoApplicationProtocol" => "it does not speak HTTP/2".into(),
        "ProtocolVersion" | "HandshakeFailure" => {
            format!("it has no version or cipher of TLS in common with this client ({alert})")
        }
        // Such as internal errors: another try may do.
        _ => return None,
    })
}
