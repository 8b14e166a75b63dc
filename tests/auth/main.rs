//! Who may do what, over real TCP, with real keys and tokens: faults 7 to 10 and 35.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "../common/gateway.rs"]
mod gateway;
#[path = "../common/issuer.rs"]
mod issuer;
#[path = "../common/scripted_store.rs"]
mod scripted_store;

mod bed;
mod grants;
mod key_sets;
mod leaving;
mod tokens;
