//! The status page: one file without a build step, served as it is.
//!
//! Its script and style are inline, and the `Content-Security-Policy` allows these two by their hashes and nothing else: no
//! other script or style, no other origin, no form, no frame. The hashes are computed from the page itself, so that they
//! cannot differ from it. Caller: the side port.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// The page.
const HTML: &str = include_str!("status.html");

static HEAD: LazyLock<Head> = LazyLock::new(|| Head::of(HTML));

/// What goes before the page.
struct Head {
    content_security_policy: HeaderValue,
    etag: HeaderValue,
}

impl Head {
    fn of(html: &str) -> Self {
        let allowed = |element: &str| match between(html, element) {
            Some(text) => format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text))),
            None => "'none'".to_owned(),
        };
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            allowed("script"),
            allowed("style")
        );
        let etag = format!("\"{}\"", STANDARD.encode(&Sha256::digest(html)[..12]));
        // Base64 and the words above are ASCII.
        let value = |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        Self { content_security_policy: value(&policy), etag: value(&etag) }
    }
}

/// The text of the only element of this name.
fn between<'a>(html: &'a str, element: &str) -> Option<&'a str> {
    let (_, rest) = html.split_once(&format!("<{element}>"))?;
    rest.split_once(&format!("</{element}>")).map(|(text, _)| text)
}

/// The page, or that a browser has it.
pub(super) fn answer(request: &HeaderMap) -> Response {
    let Head { content_security_policy, etag } = &*HEAD;
    let headers = [
        (header::CONTENT_SECURITY_POLICY, content_security_policy.clone()),
        (header::ETAG, etag.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
    ];
    match request.get(header::IF_NONE_MATCH) == Some(etag) {
        true => (StatusCode::NOT_MODIFIED, headers).into_response(),
        false => (headers, HTML).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_that_its_policy_forbids() {
        let style = between(HTML, "style").unwrap();
        let script = between(HTML, "script").unwrap();
        assert_eq!((HTML.matches("<script").count(), HTML.matches("<style").count()), (1, 1));
        let markup = HTML.replace(style, "").replace(script, "");
        for forbidden in [" style=", " onclick=", " onload=", "javascript:", "<iframe", "<form", "@import"] {
            assert!(!markup.contains(forbidden), "{forbidden}");
        }
        assert!(!script.contains("eval(") && !script.contains("innerHTML") && !script.contains("setAttribute('style'"));
        assert!(!style.contains("url("), "nothing is fetched");
        // Names of namespaces are not addresses.
        let addresses = HTML.replace("http://www.w3.org/2000/svg", "");
        assert!(!addresses.contains("http://") && !addresses.contains("https://"), "no other host is named");
    }

    #[test]
    fn another_script_has_another_hash() {
        let policy = |html| Head::of(html).content_security_policy.to_str().unwrap().to_owned();
        let (one, other) = (policy("<style>a</style><script>1</script>"), policy("<style>a</style><script>2</script>"));
        assert_ne!(one, other);
        // The hash that browsers compute of `1`.
        assert!(one.contains("script-src 'sha256-a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s='"), "{one}");
        assert!(policy("<p>nothing").contains("script-src 'none'"));
    }
}
