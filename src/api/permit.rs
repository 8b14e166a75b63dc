//! Whether a caller may use a table: what every handler asks before it looks anything up, so that neither the answer nor the
//! time that it takes tells which tables there are.
//!
//! | permission | calls |
//! |---|---|
//! | read | GetRow, BatchGetRows (table by table), ReadRange (again before each message), ReadSeries |
//! | write | Write (for as long as it is open), WriteRows, CheckRows |
//! | admin | ApplyTable (a dry run, too), DropTable, `evolve: ADD_COLUMNS` beside write |
//! | any | GetTable, and to be listed by ListTables |
//!
//! A caller with no permission for a name is told the same whether or not there is such a table. One with any permission may
//! see the name: it is told which permission it lacks, and after this module has let it pass, that a table does not exist.

use tonic::Status;

use super::status;
use crate::access::{Caller, Loss, Permission};

/// Passes a caller that may do this with the table.
pub(super) fn ask(caller: &Caller, permission: Permission, table: &str) -> Result<(), Status> {
    match caller.refusal(permission, table) {
        Some(loss) => Err(refused(caller, loss, permission, table)),
        None => Ok(()),
    }
}

/// Passes a caller that may know of the table.
pub(super) fn ask_to_see(caller: &Caller, table: &str) -> Result<(), Status> {
    if caller.may_see(table) { Ok(()) } else { Err(status::permission_denied_table(table)) }
}

/// The status for a caller that may not do this (any more).
pub(super) fn refused(caller: &Caller, loss: Loss, permission: Permission, table: &str) -> Status {
    match loss {
        Loss::Expired => status::unauthenticated("the credential has expired; come back with a new one"),
        Loss::Revoked => status::unauthenticated("the credential is not accepted any more"),
        Loss::GrantRemoved if caller.may_see(table) => {
            let to_do = match permission {
                Permission::Read => "read",
                Permission::Write => "write",
                Permission::Admin => "administer",
            };
            status::permission_denied(to_do, table)
        }
        Loss::GrantRemoved => status::permission_denied_table(table),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use tokio::sync::watch;
    use tonic::Code;

    use super::*;
    use crate::access::{Credential, Glob, Grants, Identity, Limits, Policy, Principal};

    fn caller(grants: Grants, expires_at: Option<SystemTime>) -> (Caller, watch::Sender<Arc<Policy>>) {
        let names: Arc<[Arc<str>]> = Arc::from([Arc::from("uri:spiffe://x/ana")]);
        let principal = Principal { name: "ana".into(), grants, limits: Limits::default(), operator: false };
        let policy = Policy {
            principals: HashMap::from([("ana".into(), Arc::new(principal))]),
            certificates: vec![(Arc::clone(&names[0]), "ana".into())],
            ..Policy::default()
        };
        let (sender, watch) = watch::channel(Arc::new(policy));
        let identity = Identity { principal: "ana".into(), credential: Credential::Certificate { names }, expires_at };
        (Caller::known(identity, watch), sender)
    }

    fn tables(pattern: &str) -> Vec<Glob> {
        vec![Glob::try_new(pattern).unwrap()]
    }

    fn answer(result: Result<(), Status>) -> (Code, String) {
        let status = result.unwrap_err();
        (status.code(), status.message().to_owned())
    }

    #[test]
    fn a_table_that_nothing_is_granted_for_is_refused_without_a_word_about_it() {
        let (ana, _policy) = caller(Grants { read: tables("card_*"), ..Grants::default() }, None);
        ask(&ana, Permission::Read, "card_1").unwrap();
        ask_to_see(&ana, "card_1").unwrap();
        let hidden = (Code::PermissionDenied, "no table `x`, or no permission to use it".to_owned());
        assert_eq!(answer(ask(&ana, Permission::Read, "x")), hidden);
        assert_eq!(answer(ask_to_see(&ana, "x")), hidden);
        let visible = answer(ask(&ana, Permission::Write, "card_1"));
        assert_eq!(visible, (Code::PermissionDenied, "no permission to write the table `card_1`".to_owned()));
    }

    #[test]
    fn who_is_not_known_any_more_is_unauthenticated_and_not_merely_refused() {
        let grants = Grants { read: tables("*"), ..Grants::default() };
        let (late, _policy) = caller(grants.clone(), Some(SystemTime::now() - Duration::from_secs(1)));
        assert_eq!(answer(ask(&late, Permission::Read, "t")).0, Code::Unauthenticated);
        let (ana, policy) = caller(grants, None);
        ask(&ana, Permission::Read, "t").unwrap();
        policy.send_replace(Arc::default());
        assert_eq!(answer(ask(&ana, Permission::Read, "t")).0, Code::Unauthenticated);
    }

    #[test]
    fn without_authentication_everybody_may_do_everything() {
        for permission in [Permission::Read, Permission::Write, Permission::Admin] {
            ask(&Caller::anyone(), permission, "t").unwrap();
        }
        ask_to_see(&Caller::anyone(), "t").unwrap();
    }
}
