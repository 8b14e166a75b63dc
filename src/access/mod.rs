//! Who may do what: principals, their grants and limits, and the caller of a call.
//!
//! A [`Policy`] is what holds at one moment; it is never changed, only replaced, and whoever must notice watches for the next
//! one ([`PolicyWatch`]). A [`Caller`] is somebody who has shown a credential: it answers whether a call is allowed *now*, and
//! tells an open stream when that ends ([`Caller::lost`]). What is not granted is denied.
//!
//! Nothing here reads a request, or watches a file: `middleware::auth` makes callers of credentials, and puts the next policy
//! in force. Callers: `middleware`, `api`, `quota`, `admin`.

mod caller;
mod changes;
mod file;
mod grants;
mod issuer;
mod key;
mod peer;
mod policy;

pub use caller::{Caller, Credential, Identity, Loss};
pub use changes::PolicyChanges;
pub use file::{AccessFileError, parse_access_file, read_access_file};
pub use grants::{Glob, GlobError, Grants, Permission};
pub use issuer::{IssuerConfig, JwksSource, SignatureAlgorithm};
pub use key::{KEY_PREFIX, KeyFormError, KeyIdError, NewKey, ShownKey, check_key_id};
pub use peer::{Peer, PeerCertificate};
pub use policy::{ApiKey, Limits, Policy, PolicyWatch, Principal, Rate, TableLimits};
