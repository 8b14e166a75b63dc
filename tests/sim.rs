//! The write pool against a model of DynamoDB, on virtual time: whatever the model does, no promise is broken.
//!
//! One seed is one run, of more than 60 virtual seconds and 5,000 rows. Variables of the environment:
//! - `FOREBAY_SIM_SEEDS`: how many seeds to run, instead of a few;
//! - `FOREBAY_SIM_FIRST_SEED`: the first of them.
//!
//! A seed that fails prints the command that repeats it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(unreachable_pub, missing_docs, reason = "modules of a test binary")]

#[path = "common/checker.rs"]
mod checker;

#[path = "sim/client.rs"]
mod client;
#[path = "sim/judge.rs"]
mod judge;
#[path = "sim/lies.rs"]
mod lies;
#[path = "sim/outage.rs"]
mod outage;
#[path = "sim/plan.rs"]
mod plan;
#[path = "sim/run.rs"]
mod run;
#[path = "sim/seeds.rs"]
mod seeds;
#[path = "sim/sequences.rs"]
mod sequences;
#[path = "sim/world.rs"]
mod world;
