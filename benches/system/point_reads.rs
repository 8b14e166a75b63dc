//! What the gateway adds to a point read: the same row by the SDK and through the gateway, taking turns.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use forebay::client::Lookup;
use forebay::proto::v1::{Value, value::Kind};
use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::processes::{Forebay, Stub};
use crate::report::{self, Reads};
use crate::rows::{self, Form, KEY};
use crate::{Failure, fail, load};

const ROWS: u64 = 500;
/// Reads before any counts.
const WARM_UP: u64 = 200;

pub(crate) async fn measure(forebay: &Forebay, reads: u64) -> Result<Reads, Failure> {
    report::progress("point reads");
    let stub = Stub::start(true)?;
    let gateway = forebay.serve(&stub.url())?;
    let client = forebay::client::connect(&gateway.endpoint())?;
    let table = client.tables().apply(rows::table(false)?, false).await?;
    let name = table.table.map(|table| table.dynamodb_table).unwrap_or_default();
    let prepared = rows::prepare(Form::Arrow, 0, 1, ROWS as usize)?;
    let meter = load::Meter::new()?;
    let target = load::Target { endpoint: gateway.endpoint(), key: None };
    let writing = tokio::spawn(load::write(target, prepared, None, meter.clone()));
    while meter.acked_rows() == 0 && !writing.is_finished() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    meter.end();
    writing.await??;

    let sdk = sdk(&stub.url());
    let reader = client.reader();
    let (mut direct, mut through) = (histogram()?, histogram()?);
    for number in 0..WARM_UP + reads {
        let key = rows::key(number % ROWS);
        let begun = Instant::now();
        let attribute = AttributeValue::S(key.clone());
        let answer = sdk.get_item().table_name(&name).key(KEY, attribute).send().await?;
        let direct_nanos = begun.elapsed().as_nanos() as u64;
        answer.item.ok_or_else(|| fail(format!("the SDK did not find {key}")))?;

        let begun = Instant::now();
        let value = Value { kind: Some(Kind::StringValue(key)) };
        let read = reader.get_row(rows::TABLE, vec![value], &[]).await?;
        let through_nanos = begun.elapsed().as_nanos() as u64;
        if !matches!(read.lookup, Lookup::Found(_)) {
            return Err(fail(format!("the gateway did not find a row: {:?}", read.lookup)));
        }
        if number >= WARM_UP {
            direct.saturating_record(direct_nanos);
            through.saturating_record(through_nanos);
        }
    }
    let micros = |histogram: &Histogram<u64>| [0.5, 0.99].map(|q| histogram.value_at_quantile(q) as f64 / 1000.0);
    Ok(Reads { direct_micros: micros(&direct), gateway_micros: micros(&through) })
}

/// The SDK with its defaults, but for a proxy that the environment may name: it has no business between loopback and itself.
fn sdk(url: &str) -> Client {
    let http = Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = ConnectorBuilder::default();
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.proxy_config(aws_smithy_http_client::proxy::ProxyConfig::disabled()).build_http()
    });
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .endpoint_url(url)
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new("stub", "stub", None, None, "bench"))
        .build();
    Client::from_conf(config)
}

/// Of nanoseconds, up to a minute.
fn histogram() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}
