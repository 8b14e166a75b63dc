//! DynamoDB by the AWS SDK: the only place that names it.
//!
//! Three clients over one configuration and one HTTP client, because they differ in who retries: the **write** client makes one attempt and
//! sends bytes of ours (`body`); the **read** client retries briefly; the **control** client has patience.
//!
//! - `request`: the bodies of write requests, as bytes
//! - `body`: how the SDK carries them
//! - `write`, `read`, `control`, `records`: the operations
//! - `http`: the HTTP client that they share
//! - `attr`: values and keys between the SDK and the trait
//! - `errors`: what an SDK error means

mod attr;
mod body;
mod control;
mod errors;
mod http;
mod read;
mod records;
mod request;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Builder, Region};
use aws_sdk_dynamodb::config::{retry::RetryConfig, timeout::TimeoutConfig};
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;

use super::observed::ServerAddress;
use super::{
    BatchGetDone, BatchWrite, ControlError, ControlRecord, GetKeys, Item, OneWrite, QueryPage, QueryRange, ReadError,
    Store, StoreConfig, StoreFuture, TableDescription, TransactWrite, WriteDone, WriteError,
};
use crate::limits::{
    STORE_CONNECT_TIMEOUT, STORE_CONTROL_ATTEMPT_TIMEOUT, STORE_CONTROL_BACKOFF, STORE_CONTROL_TIMEOUT,
    STORE_READ_ATTEMPTS, STORE_READ_BACKOFF, STORE_READ_BACKOFF_MAX,
};
use crate::schema::table::TableDef;

/// What requests are signed for where an endpoint is given without a region: local stores do not care.
const LOCAL_REGION: &str = "us-east-1";

/// Why there is no store to talk to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Neither the configuration nor the environment names a region.
    #[error("no AWS region was found; set `region`, AWS_REGION, or an endpoint")]
    NoRegion,
    /// The endpoint is not a URL.
    #[error("the endpoint `{endpoint}` is not of the form `http://host:port` or `https://host`")]
    BadEndpoint {
        /// What was given.
        endpoint: String,
    },
}

/// DynamoDB, or anything that speaks its protocol.
#[derive(Debug, Clone)]
pub struct DynamoDb {
    writer: write::Writer,
    read: Client,
    control: Client,
    /// Where it is, for people.
    place: Arc<str>,
    /// Where it is, for traces.
    server: ServerAddress,
}

impl DynamoDb {
    /// Loads the configuration. With an endpoint and static credentials it touches nothing but the process; without, it
    /// reads AWS's environment variables and files, and may ask the instance for its region. No request is made:
    /// [`DynamoDb::check_access`] makes one.
    pub async fn connect(config: &StoreConfig) -> Result<Self, ConnectError> {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
        if let Some(endpoint) = &config.endpoint_url {
            let uri = endpoint.parse::<::http::Uri>().ok();
            let usable = uri.is_some_and(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
            });
            if !usable {
                return Err(ConnectError::BadEndpoint { endpoint: endpoint.clone() });
            }
            loader = loader.endpoint_url(endpoint);
        }
        match (&config.region, &config.endpoint_url, &config.static_credentials) {
            (Some(region), _, _) => loader = loader.region(Region::new(region.clone())),
            (None, Some(_), Some(_)) => loader = loader.region(Region::from_static(LOCAL_REGION)),
            _ => {}
        }
        if let Some((id, secret)) = &config.static_credentials {
            loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "forebay"));
        }
        let loaded = loader.load().await;
        let (loaded, region) = match (loaded.region().cloned(), &config.endpoint_url) {
            (Some(region), _) => (loaded, region),
            (None, Some(_)) => {
                let region = Region::from_static(LOCAL_REGION);
                (loaded.into_builder().region(region.clone()).build(), region)
            }
            (None, None) => return Err(ConnectError::NoRegion),
        };
        let server = server_address(loaded.endpoint_url(), region.as_ref());
        let place = match loaded.endpoint_url() {
            Some(endpoint) => format!("the endpoint {endpoint}"),
            None => format!("DynamoDB in {region}"),
        };
        let shared = Builder::from(&loaded).http_client(http::client(loaded.endpoint_url()));
        Ok(Self::from_builder(shared, config, (place, server)))
    }

    fn from_builder(shared: Builder, config: &StoreConfig, (place, server): (String, ServerAddress)) -> Self {
        let connect = |attempt| TimeoutConfig::builder().connect_timeout(STORE_CONNECT_TIMEOUT.min(attempt));
        let no_stall_check = StalledStreamProtectionConfig::disabled();
        let attempt_timeout = config.write_attempt_timeout;
        // Correction of a skewed clock stays on: it costs a header's parsing, and without it a pod with a wrong clock
        // would be refused for ever.
        let write = shared
            .clone()
            .retry_config(RetryConfig::disabled())
            .timeout_config(connect(attempt_timeout).build())
            .stalled_stream_protection(no_stall_check.clone())
            .interceptor(body::RawBodies::new());
        let read = shared
            .clone()
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(STORE_READ_ATTEMPTS)
                    .with_initial_backoff(STORE_READ_BACKOFF)
                    .with_max_backoff(STORE_READ_BACKOFF_MAX),
            )
            .timeout_config(
                connect(config.read_attempt_timeout)
                    .operation_attempt_timeout(config.read_attempt_timeout)
                    .operation_timeout(config.read_timeout)
                    .build(),
            )
            .stalled_stream_protection(no_stall_check);
        let control =
            shared.retry_config(RetryConfig::standard().with_initial_backoff(STORE_CONTROL_BACKOFF)).timeout_config(
                connect(STORE_CONTROL_ATTEMPT_TIMEOUT)
                    .operation_attempt_timeout(STORE_CONTROL_ATTEMPT_TIMEOUT)
                    .operation_timeout(STORE_CONTROL_TIMEOUT)
                    .build(),
            );
        Self {
            writer: write::Writer { client: Client::from_conf(write.build()), attempt_timeout },
            read: Client::from_conf(read.build()),
            control: Client::from_conf(control.build()),
            place: place.into(),
            server,
        }
    }

    /// Where its calls go.
    pub fn server(&self) -> ServerAddress {
        self.server.clone()
    }

    /// Makes one cheap call, so that missing credentials or a wrong endpoint are found before anything is served. It
    /// describes `table`, which need not exist.
    pub async fn check_access(&self, table: &str) -> Result<(), ControlError> {
        match control::describe(&self.control, table).await {
            Ok(_) => Ok(()),
            Err(ControlError::Unavailable { message }) => {
                Err(ControlError::Unavailable { message: format!("{} does not answer: {message}", self.place) })
            }
            Err(error) => Err(error),
        }
    }
}

/// The host that calls go to: the endpoint's, or the region's own.
fn server_address(endpoint: Option<&str>, region: &str) -> ServerAddress {
    let uri = endpoint.and_then(|endpoint| endpoint.parse::<::http::Uri>().ok());
    match uri.as_ref().and_then(::http::Uri::authority) {
        Some(authority) => ServerAddress { host: authority.host().into(), port: authority.port_u16() },
        None => ServerAddress { host: format!("dynamodb.{region}.amazonaws.com").into(), port: None },
    }
}

/// For a call whose repetition would mean something else.
fn no_retries() -> Builder {
    aws_sdk_dynamodb::Config::builder().retry_config(RetryConfig::disabled())
}

impl Store for DynamoDb {
    fn batch_write(&self, request: BatchWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        Box::pin(self.writer.batch_write(request))
    }

    fn write_one(&self, request: OneWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        Box::pin(self.writer.write_one(request))
    }

    fn transact_write(&self, request: TransactWrite) -> StoreFuture<'_, WriteDone, WriteError> {
        Box::pin(self.writer.transact_write(request))
    }

    fn get(&self, keys: GetKeys) -> StoreFuture<'_, Option<Item>, ReadError> {
        Box::pin(read::get(&self.read, keys))
    }

    fn batch_get(&self, tables: Vec<GetKeys>) -> StoreFuture<'_, BatchGetDone, ReadError> {
        Box::pin(read::batch_get(&self.read, tables))
    }

    fn query(&self, range: QueryRange) -> StoreFuture<'_, QueryPage, ReadError> {
        Box::pin(read::query(&self.read, range))
    }

    fn describe_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Option<TableDescription>, ControlError> {
        Box::pin(control::describe(&self.control, table))
    }

    fn create_table<'a>(&'a self, definition: &'a TableDef) -> StoreFuture<'a, (), ControlError> {
        Box::pin(control::create(&self.control, definition))
    }

    fn complete_table<'a>(&'a self, definition: &'a TableDef) -> StoreFuture<'a, (), ControlError> {
        Box::pin(control::complete(&self.control, definition))
    }

    fn delete_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, (), ControlError> {
        Box::pin(control::delete(&self.control, table))
    }

    fn ensure_control_table<'a>(&'a self, table: &'a str) -> StoreFuture<'a, (), ControlError> {
        Box::pin(control::ensure_control_table(&self.control, table))
    }

    fn put_record<'a>(
        &'a self,
        table: &'a str,
        record: ControlRecord,
        only_if_absent: bool,
    ) -> StoreFuture<'a, (), ControlError> {
        Box::pin(records::put(&self.control, table, record, only_if_absent))
    }

    fn get_record<'a>(
        &'a self,
        table: &'a str,
        pk: &'a str,
        sk: Option<u64>,
    ) -> StoreFuture<'a, Option<ControlRecord>, ControlError> {
        Box::pin(records::get(&self.control, table, pk, sk))
    }

    fn scan_records<'a>(&'a self, table: &'a str) -> StoreFuture<'a, Vec<ControlRecord>, ControlError> {
        Box::pin(records::scan(&self.control, table))
    }
}
