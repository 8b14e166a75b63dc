//! The columns that sessions add (`evolve: ADD_COLUMNS`): a new version of the definition, by compare-and-set.
//!
//! Many tasks of one job open their sessions at once and bring the same columns: the first adds them and the others find
//! them there. Sessions that bring different columns all succeed, one version after the other. Within a pod they queue up;
//! between pods whoever loses looks again. The caller has asked whether the client may change the table.

use std::sync::Arc;

use super::apply::{ATTEMPT_PAUSE, ATTEMPTS};
use super::record::State;
use super::{Catalog, CatalogError, TableVersion, support};
use crate::schema::Schema;
use crate::schema::add_columns::{Added, add_columns};
use crate::store::ControlError;

impl Catalog {
    /// The table's newest version, with all the columns of the session; without DynamoDB where the cached one has them.
    ///
    /// `fits` says whether the session can work with a definition. It is asked before the table is changed, so that a
    /// session that is refused leaves nothing behind, and is told what would be new.
    pub async fn add_columns<E: From<CatalogError>>(
        &self,
        name: &str,
        session: &Schema,
        fits: impl Fn(&Added) -> Result<(), E>,
    ) -> Result<Arc<TableVersion>, E> {
        let known = self.get(name).await?;
        if add_columns(&known.def, session).is_none() {
            return Ok(known);
        }
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(ATTEMPT_PAUSE * fastrand::u32(1..=attempt)).await;
            }
            let _one_at_a_time = self.inner.cache.loading(name).lock().await;
            // Whoever held the lock may have added the very columns.
            if let Some(known) = self.peek(name).filter(|known| add_columns(&known.def, session).is_none()) {
                return Ok(known);
            }
            match self.add_once(name, session, &fits).await {
                Err(AddError::Conflict) => {}
                Err(AddError::Other(error)) => return Err(error),
                Ok(version) => return Ok(version),
            }
        }
        Err(CatalogError::Contended { name: name.to_owned() }.into())
    }

    async fn add_once<E: From<CatalogError>>(
        &self,
        name: &str,
        session: &Schema,
        fits: &impl Fn(&Added) -> Result<(), E>,
    ) -> Result<Arc<TableVersion>, AddError<E>> {
        let record = self.latest(name).await?;
        let (sk, found) = record.map_or((0, None), |record| (record.sk, record.usable()));
        self.inner.cache.put(name, sk, found.clone());
        let found = found.ok_or_else(|| CatalogError::NotFound { name: name.to_owned() })?;
        let Some(added) = add_columns(&found.def, session) else { return Ok(found) };
        fits(&added).map_err(AddError::Other)?;
        // As for a definition that is applied.
        let mut def = added.definition;
        def.validate().map_err(CatalogError::from)?;
        support::check(&mut def)?;
        let record = self.append(name, sk + 1, State::Active, found.version + 1, Some(def)).await?;
        tracing::info!(
            table = name,
            version = found.version + 1,
            columns = added.paths.join(", "),
            "a session added columns"
        );
        record.usable().ok_or_else(|| CatalogError::NotFound { name: name.to_owned() }.into())
    }
}

/// Why columns were not added this time.
enum AddError<E> {
    /// Somebody else changed the table meanwhile.
    Conflict,
    Other(E),
}

impl<E: From<CatalogError>> From<CatalogError> for AddError<E> {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Store(ControlError::Conflict) => Self::Conflict,
            other => Self::Other(other.into()),
        }
    }
}
