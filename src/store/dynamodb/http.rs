//! The HTTP client that all of the store's SDK clients share.

use std::net::IpAddr;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, ConnectorBuilder, tls};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

/// The client for an endpoint; `None` for AWS's own.
///
/// It differs from the SDK's default in one thing: to this machine it goes directly and in plain text, where the default
/// would follow `HTTP_PROXY` and ask a proxy for its own loopback.
pub(super) fn client(endpoint: Option<&str>) -> SharedHttpClient {
    let local = endpoint.is_some_and(is_plain_loopback);
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = ConnectorBuilder::default();
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        if local {
            return connector.proxy_config(ProxyConfig::disabled()).build_http();
        }
        connector
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .build()
    })
}

fn is_plain_loopback(endpoint: &str) -> bool {
    let Ok(uri) = endpoint.parse::<::http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    loopback && uri.scheme_str() == Some("http")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_text_to_this_machine_is_local() {
        for local in ["http://127.0.0.1:8000", "http://localhost:8000/", "http://[::1]:1"] {
            assert!(is_plain_loopback(local), "{local}");
        }
        for remote in ["https://localhost:8000", "http://10.0.0.1:8000", "http://localhost.example.com", "nonsense"] {
            assert!(!is_plain_loopback(remote), "{remote}");
        }
    }
}
