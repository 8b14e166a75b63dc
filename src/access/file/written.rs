//! What people write into the access file, value by value. Each refuses what is wrong with it alone.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::access::{Glob, Rate, SignatureAlgorithm, check_key_id};
use crate::limits::PRINCIPAL_MAX_BYTES;
use crate::yaml::Lined;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) principals: Pairs<Principal>,
    #[serde(default)]
    pub(super) api_keys: Vec<ApiKey>,
    #[serde(default)]
    pub(super) issuers: Vec<Issuer>,
    #[serde(default)]
    pub(super) client_certificates: Vec<Certificate>,
    #[serde(default)]
    pub(super) tables: Vec<Tables>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Principal {
    #[serde(default)]
    pub(super) read: Vec<TablesGlob>,
    #[serde(default)]
    pub(super) write: Vec<TablesGlob>,
    #[serde(default)]
    pub(super) admin: Vec<TablesGlob>,
    #[serde(default)]
    pub(super) operator: bool,
    #[serde(default)]
    pub(super) limits: Limits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) write_rows: Option<WrittenRate>,
    pub(super) write_kib: Option<WrittenRate>,
    pub(super) read_rows: Option<WrittenRate>,
    pub(super) stream_opens: Option<WrittenRate>,
    pub(super) streams: Option<Count>,
    pub(super) weight: Option<Count>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApiKey {
    pub(super) id: Lined<KeyId>,
    pub(super) sha256: Lined<Sha256Hex>,
    pub(super) principal: Lined<Name>,
    #[serde(default)]
    pub(super) expires_at: Option<Moment>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issuer {
    pub(super) issuer: Lined<NonEmpty>,
    pub(super) audiences: Lined<Vec<NonEmpty>>,
    #[serde(default)]
    pub(super) jwks_url: Option<JwksUrl>,
    #[serde(default)]
    pub(super) jwks_file: Option<PathBuf>,
    pub(super) algorithms: Lined<Vec<SignatureAlgorithm>>,
    #[serde(default)]
    pub(super) principal_claim: Option<NonEmpty>,
    #[serde(default)]
    pub(super) principals: Option<Pairs<Lined<Name>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) name: Lined<CertificateName>,
    pub(super) principal: Lined<Name>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tables {
    pub(super) tables: Lined<TablesGlob>,
    pub(super) limits: TableLimits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TableLimits {
    pub(super) write_rows: Option<WrittenRate>,
    pub(super) write_kib: Option<WrittenRate>,
    pub(super) read_rows: Option<WrittenRate>,
}

/// A mapping from names, in the order of the file. The parser refuses a name that is there twice.
#[derive(Debug)]
pub(super) struct Pairs<V>(pub(super) Vec<(Lined<Name>, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Mapping<V>(std::marker::PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Mapping<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of keys to values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Mapping(std::marker::PhantomData))
    }
}

/// A type that is read from a single text by a function which says what is wrong.
macro_rules! from_text {
    ($type:ty, $read:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let read: fn(&str) -> Result<Self, String> = $read;
                read(&text).map_err(D::Error::custom)
            }
        }
    };
}

/// A pattern of tables.
#[derive(Debug)]
pub(super) struct TablesGlob(pub(super) Glob);
from_text!(TablesGlob, |text| Glob::try_new(text).map(Self).map_err(|error| error.to_string()));

/// The name of a principal, or the value of a claim that stands for one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name(pub(super) Arc<str>);
from_text!(Name, |text| {
    let fits =
        (1..=PRINCIPAL_MAX_BYTES).contains(&text.len()) && text.trim() == text && !text.chars().any(char::is_control);
    match fits {
        true => Ok(Self(text.into())),
        false => Err(format!("{text:?} is no name; expected 1 to {PRINCIPAL_MAX_BYTES} bytes of text")),
    }
});

/// A text that says something.
#[derive(Debug)]
pub(super) struct NonEmpty(pub(super) String);
from_text!(NonEmpty, |text| match text.trim() == text && !text.is_empty() {
    true => Ok(Self(text.to_owned())),
    false => Err(format!("{text:?} is empty, or has blanks at its ends")),
});

/// The id of an API key.
#[derive(Debug)]
pub(super) struct KeyId(pub(super) Arc<str>);
from_text!(KeyId, |text| check_key_id(text).map(|()| Self(text.into())).map_err(|error| error.to_string()));

/// What is kept of a key. What was written instead is not shown: it may be the key itself.
#[derive(PartialEq, Eq)]
pub(super) struct Sha256Hex(pub(super) [u8; 32]);
from_text!(Sha256Hex, |text| sha256_of_hex(text).map(Self).ok_or_else(|| {
    let is = if text.starts_with("fb_") { "this is a whole key, which must not be kept" } else { "no SHA-256" };
    format!("{is}; expected the 64 hexadecimal digits that `forebay keys hash` prints")
}));

impl fmt::Debug for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256Hex")
    }
}

fn sha256_of_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16)?;
            *byte = (*byte << 4) | u8::try_from(value).ok()?;
        }
    }
    Some(bytes)
}

/// A moment.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Moment(#[serde(with = "crate::yaml::moment")] pub(super) SystemTime);

/// Where keys are fetched.
#[derive(Debug)]
pub(super) struct JwksUrl(pub(super) http::Uri);
from_text!(JwksUrl, |text| {
    let uri = text.parse::<http::Uri>().ok().filter(|uri| {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        let scheme = uri.scheme_str().unwrap_or_default();
        !host.is_empty() && !has_user && (scheme == "https" || (scheme == "http" && is_loopback))
    });
    // Who can change keys on the way can sign tokens.
    uri.map(Self).ok_or_else(|| format!("`{text}` is no address of keys; expected https://..., or http on loopback"))
});

/// A certificate's subject alternative name, with its kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CertificateName(pub(super) Arc<str>);
from_text!(CertificateName, |text| {
    let wrong = || {
        let kinds =
            "`uri:spiffe://cluster/ns/ml/sa/fraud`, `dns:fraud.ml.svc`, `email:fraud@example.com` or `ip:10.0.0.7`";
        format!("`{text}` is no name of a certificate; expected one such as {kinds}")
    };
    let (kind, value) = text.split_once(':').ok_or_else(wrong)?;
    let fits = |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
    let is_name = match kind {
        // Names of hosts are the same in any case.
        "dns" if fits(value) => return Ok(Self(text.to_ascii_lowercase().into())),
        "uri" | "email" => fits(value),
        // An address has one spelling in a certificate, and many here.
        "ip" => return value.parse::<IpAddr>().map(|ip| Self(format!("ip:{ip}").into())).map_err(|_| wrong()),
        _ => false,
    };
    if is_name { Ok(Self(text.into())) } else { Err(wrong()) }
});

/// How many, and not none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count(pub(super) NonZeroU32);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = NonZeroU32::new(u32::deserialize(deserializer)?);
        number.map(Self).ok_or_else(|| D::Error::custom("`0` is too few; expected a whole number from 1 on"))
    }
}

/// `50000`, whose burst is one second's, or `{per_second: 50000, burst: 100000}`.
#[derive(Debug)]
pub(super) struct WrittenRate(pub(super) Rate);

impl<'de> Deserialize<'de> for WrittenRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Both {
            per_second: Count,
            #[serde(default)]
            burst: Option<Count>,
        }

        /// A number that is wrong is told only when it is read: the parser would name the line of its neighbours.
        type Read = Result<Rate, String>;

        const EXPECTED: &str = "a whole number from 1 on, or `{per_second: 50000, burst: 100000}`";

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Read;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Read, E> {
                let rate = u32::try_from(number).ok().and_then(NonZeroU32::new);
                Ok(rate.map(|rate| Rate { per_second: rate, burst: rate }).ok_or_else(|| number.to_string()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Read, E> {
                u64::try_from(number).map_or_else(|_| Ok(Err(number.to_string())), |number| self.visit_u64(number))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Read, E> {
                Ok(Err(number.to_string()))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Read, E> {
                Ok(Err(value.to_string()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Read, E> {
                Ok(Err(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Read, A::Error> {
                let Both { per_second, burst } = Both::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Ok(Rate { per_second: per_second.0, burst: burst.unwrap_or(per_second).0 }))
            }
        }
        let wrong = |found: String| D::Error::custom(format!("`{found}` is no rate; expected {EXPECTED}"));
        deserializer.deserialize_any(Either)?.map(Self).map_err(wrong)
    }
}
