//! Tables: describe, create, delete.
//!
//! Only what a definition asks for is called, so that a compatible store without point-in-time recovery, say, serves
//! every definition that does not want it.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::operation::describe_table::DescribeTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode as SdkBilling, KeySchemaElement, KeyType, OnDemandThroughput,
    PointInTimeRecoverySpecification, ProvisionedThroughput, ScalarAttributeType, SseSpecification, SseType,
    StreamSpecification, StreamViewType, TableDescription as SdkTable, TableStatus, Tag, TimeToLiveSpecification,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::error::operation::BuildError;
use tokio::time::Instant;

use super::errors::Failure;
use crate::limits::{STORE_TABLE_POLL, STORE_TABLE_POLL_MAX, STORE_TABLE_WAIT};
use crate::schema::table::{
    BillingMode, DynamoDbOptions, KeyAttribute, KeyAttributeType, Ownership, StreamView, TableDef,
};
use crate::store::{ControlError, TableDescription};

/// The key of a control table.
pub(super) const CONTROL_PARTITION: &str = "pk";
/// The key of a control table.
pub(super) const CONTROL_SORT: &str = "sk";

pub(super) async fn describe(client: &Client, table: &str) -> Result<Option<TableDescription>, ControlError> {
    let answer = match client.describe_table().table_name(table).send().await {
        Ok(answer) => answer,
        Err(error) if error.as_service_error().is_some_and(DescribeTableError::is_resource_not_found_exception) => {
            return Ok(None);
        }
        Err(error) => return Err(control_error(table, &error)),
    };
    answer.table.map(|description| from_sdk(table, &description)).transpose()
}

pub(super) async fn create(client: &Client, definition: &TableDef) -> Result<(), ControlError> {
    let table = &definition.dynamodb_table;
    let refused = |error: crate::schema::types::SchemaError| ControlError::Refused { message: error.to_string() };
    let partition = definition.partition_attribute().map_err(refused)?;
    let sort = definition.sort_attribute().map_err(refused)?;
    let request = with_key(client.create_table().table_name(table), &partition, sort.as_ref())
        .and_then(|request| with_options(request, &definition.dynamodb))
        .map_err(incomplete)?;
    if definition.dynamodb.point_in_time_recovery {
        check_recovery_exists(client, table).await?;
    }
    send_create(table, request).await?;
    complete(client, definition).await
}

/// Refuses point-in-time recovery where the store has no such thing, while nothing is made yet.
async fn check_recovery_exists(client: &Client, table: &str) -> Result<(), ControlError> {
    match client.describe_continuous_backups().table_name(table).send().await {
        Err(error) if error.code() == Some("UnknownOperationException") => {
            let message = "this DynamoDB-compatible store has no point-in-time recovery; leave out \
                           `point_in_time_recovery`";
            Err(ControlError::Refused { message: message.to_owned() })
        }
        // That the table is not there yet, or that looking is not permitted, says nothing against it.
        _ => Ok(()),
    }
}

/// What is left to do after CreateTable. May be done again.
pub(super) async fn complete(client: &Client, definition: &TableDef) -> Result<(), ControlError> {
    let table = &definition.dynamodb_table;
    wait_until_active(client, table).await?;
    let after_creation = |what: &str, error: ControlError| match error {
        ControlError::Refused { message } => ControlError::Refused {
            message: format!("the table `{table}` was created, but {what} could not be set: {message}"),
        },
        other => other,
    };
    // What is not ours to set up keeps what its owner chose.
    let is_ours = definition.ownership == Ownership::Created || definition.ttl_column.is_some();
    if let Some(column) = definition.expiry_attribute().filter(|_| is_ours) {
        set_ttl(client, table, column).await.map_err(|error| after_creation("its time-to-live", error))?;
    }
    if definition.dynamodb.point_in_time_recovery {
        set_recovery(client, table).await.map_err(|error| after_creation("point-in-time recovery", error))?;
    }
    Ok(())
}

pub(super) async fn delete(client: &Client, table: &str) -> Result<(), ControlError> {
    client.delete_table().table_name(table).send().await.map_err(|error| control_error(table, &error))?;
    let mut patience = Patience::new(table, "gone");
    while describe(client, table).await?.is_some() {
        patience.pause().await?;
    }
    Ok(())
}

pub(super) async fn ensure_control_table(client: &Client, table: &str) -> Result<(), ControlError> {
    let partition = KeyAttribute { name: CONTROL_PARTITION.to_owned(), kind: KeyAttributeType::S };
    let sort = KeyAttribute { name: CONTROL_SORT.to_owned(), kind: KeyAttributeType::N };
    let description = match describe(client, table).await? {
        Some(description) => description,
        None => {
            let request = with_key(client.create_table().table_name(table), &partition, Some(&sort))
                .map_err(incomplete)?
                .billing_mode(SdkBilling::PayPerRequest);
            match send_create(table, request).await {
                // Another pod was faster.
                Ok(()) | Err(ControlError::TableExists { .. }) => {}
                Err(error) => return Err(error),
            }
            wait_until_active(client, table).await?
        }
    };
    if description.partition != partition || description.sort.as_ref() != Some(&sort) {
        let message = format!(
            "the table `{table}` exists, but is no control table of Forebay's: its key must be `pk` (text) and `sk` (number)"
        );
        return Err(ControlError::Refused { message });
    }
    if !description.active {
        wait_until_active(client, table).await?;
    }
    Ok(())
}

/// One CreateTable, sent once: a retry after a lost answer would find the table there and call it somebody else's.
async fn send_create(table: &str, request: CreateTableFluentBuilder) -> Result<(), ControlError> {
    match request.customize().config_override(super::no_retries()).send().await {
        Ok(_) => Ok(()),
        Err(error) => match Failure::of(&error) {
            Failure::TableInUse(_) => Err(ControlError::TableExists { table: table.to_owned() }),
            failure => Err(failure.into_control(table)),
        },
    }
}

fn with_key(
    request: CreateTableFluentBuilder,
    partition: &KeyAttribute,
    sort: Option<&KeyAttribute>,
) -> Result<CreateTableFluentBuilder, BuildError> {
    let keys = [(KeyType::Hash, Some(partition)), (KeyType::Range, sort)];
    keys.into_iter().filter_map(|(role, key)| Some((role, key?))).try_fold(request, |request, (role, key)| {
        let kind = match key.kind {
            KeyAttributeType::S => ScalarAttributeType::S,
            KeyAttributeType::N => ScalarAttributeType::N,
            KeyAttributeType::B => ScalarAttributeType::B,
        };
        let attribute = AttributeDefinition::builder().attribute_name(&key.name).attribute_type(kind).build()?;
        let element = KeySchemaElement::builder().attribute_name(&key.name).key_type(role).build()?;
        Ok(request.attribute_definitions(attribute).key_schema(element))
    })
}

fn with_options(
    mut request: CreateTableFluentBuilder,
    options: &DynamoDbOptions,
) -> Result<CreateTableFluentBuilder, BuildError> {
    request = match options.billing_mode {
        BillingMode::OnDemand => with_maximums(request.billing_mode(SdkBilling::PayPerRequest), options),
        BillingMode::Provisioned => request.billing_mode(SdkBilling::Provisioned).provisioned_throughput(
            ProvisionedThroughput::builder()
                .read_capacity_units(units(options.provisioned_read_units))
                .write_capacity_units(units(options.provisioned_write_units))
                .build()?,
        ),
    };
    if let Some(view) = options.stream_view {
        let view = match view {
            StreamView::KeysOnly => StreamViewType::KeysOnly,
            StreamView::NewImage => StreamViewType::NewImage,
            StreamView::OldImage => StreamViewType::OldImage,
            StreamView::NewAndOldImages => StreamViewType::NewAndOldImages,
        };
        let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(view).build()?;
        request = request.stream_specification(stream);
    }
    if !options.kms_key.is_empty() {
        let encryption = SseSpecification::builder()
            .enabled(true)
            .sse_type(SseType::Kms)
            .kms_master_key_id(&options.kms_key)
            .build();
        request = request.sse_specification(encryption);
    }
    for (key, value) in &options.tags {
        request = request.tags(Tag::builder().key(key).value(value).build()?);
    }
    if options.deletion_protection {
        request = request.deletion_protection_enabled(true);
    }
    Ok(request)
}

fn with_maximums(request: CreateTableFluentBuilder, options: &DynamoDbOptions) -> CreateTableFluentBuilder {
    let maximum = |limit: u64| (limit > 0).then(|| units(limit));
    let (reads, writes) = (maximum(options.max_on_demand_read_units), maximum(options.max_on_demand_write_units));
    if reads.is_none() && writes.is_none() {
        return request;
    }
    let maximums =
        OnDemandThroughput::builder().set_max_read_request_units(reads).set_max_write_request_units(writes).build();
    request.on_demand_throughput(maximums)
}

fn units(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

async fn set_ttl(client: &Client, table: &str, column: &str) -> Result<(), ControlError> {
    let ttl = TimeToLiveSpecification::builder().enabled(true).attribute_name(column).build().map_err(incomplete)?;
    let Err(error) = client.update_time_to_live().table_name(table).time_to_live_specification(ttl).send().await else {
        return Ok(());
    };
    // DynamoDB refuses to set what is set already.
    let known = client.describe_time_to_live().table_name(table).send().await.ok();
    let known = known.and_then(|answer| answer.time_to_live_description?.attribute_name);
    if known.as_deref() == Some(column) { Ok(()) } else { Err(control_error(table, &error)) }
}

async fn set_recovery(client: &Client, table: &str) -> Result<(), ControlError> {
    let recovery =
        PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true).build().map_err(incomplete)?;
    let mut patience = Patience::new(table, "ready for point-in-time recovery");
    loop {
        let call = client.update_continuous_backups().table_name(table);
        match call.point_in_time_recovery_specification(recovery.clone()).send().await {
            Ok(_) => return Ok(()),
            // A new table's backups are not available at once.
            Err(error) if error.code() == Some("ContinuousBackupsUnavailableException") => patience.pause().await?,
            Err(error) => return Err(control_error(table, &error)),
        }
    }
}

async fn wait_until_active(client: &Client, table: &str) -> Result<TableDescription, ControlError> {
    let mut patience = Patience::new(table, "active");
    loop {
        // Right after CreateTable, DescribeTable may not know the table yet.
        if let Some(description) = describe(client, table).await?.filter(|description| description.active) {
            return Ok(description);
        }
        patience.pause().await?;
    }
}

/// Pauses between looks at a table that is changing: longer and longer ones, until the time is up.
struct Patience<'a> {
    table: &'a str,
    what: &'a str,
    deadline: Instant,
    pause: Duration,
}

impl<'a> Patience<'a> {
    fn new(table: &'a str, what: &'a str) -> Self {
        Self { table, what, deadline: Instant::now() + STORE_TABLE_WAIT, pause: STORE_TABLE_POLL }
    }

    async fn pause(&mut self) -> Result<(), ControlError> {
        if Instant::now() >= self.deadline {
            let message = format!("the table `{}` is not {} after {STORE_TABLE_WAIT:?}", self.table, self.what);
            return Err(ControlError::Unavailable { message });
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(STORE_TABLE_POLL_MAX);
        Ok(())
    }
}

fn from_sdk(table: &str, description: &SdkTable) -> Result<TableDescription, ControlError> {
    let attribute = |role: KeyType| {
        let name = description.key_schema().iter().find(|key| key.key_type == role)?.attribute_name();
        let defined =
            description.attribute_definitions().iter().find(|attribute| attribute.attribute_name() == name)?;
        let kind = match defined.attribute_type() {
            ScalarAttributeType::S => KeyAttributeType::S,
            ScalarAttributeType::N => KeyAttributeType::N,
            ScalarAttributeType::B => KeyAttributeType::B,
            _ => return None,
        };
        Some(KeyAttribute { name: name.to_owned(), kind })
    };
    let partition = attribute(KeyType::Hash).ok_or_else(|| ControlError::Refused {
        message: format!("the description of the table `{table}` has no partition key that Forebay understands"),
    })?;
    Ok(TableDescription {
        partition,
        sort: attribute(KeyType::Range),
        // A table that is being updated (its capacity, an index) serves reads and writes all the while.
        active: matches!(description.table_status(), Some(TableStatus::Active | TableStatus::Updating)),
        deletion_protection: description.deletion_protection_enabled() == Some(true),
    })
}

fn incomplete(error: BuildError) -> ControlError {
    ControlError::Refused { message: error.to_string() }
}

fn control_error<E>(table: &str, error: &SdkError<E, HttpResponse>) -> ControlError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    Failure::of(error).into_control(table)
}
