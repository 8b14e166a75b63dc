//! What has changed between two policies, in names and counts: for the log, so without hashes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::Policy;

/// Names of one kind that are listed.
const LISTED_MAX: usize = 8;

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyChanges {
    kinds: [Kind; 5],
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Kind {
    what: &'static str,
    new: Vec<Arc<str>>,
    gone: Vec<Arc<str>>,
    changed: Vec<Arc<str>>,
}

impl PolicyChanges {
    /// From one policy to the next.
    pub fn between(old: &Policy, new: &Policy) -> Self {
        let tables = |policy: &Policy| -> Vec<_> {
            policy.table_limits.iter().map(|limits| (limits.tables.to_string().into(), limits.clone())).collect()
        };
        let mut tables = Kind::of("table limits", &tables(old), &tables(new));
        if tables.is_empty() && old.table_limits != new.table_limits {
            // The first that fits counts, so their order is a part of what they say.
            tables.changed = new.table_limits.iter().map(|limits| limits.tables.to_string().into()).collect();
        }
        let issuers = |policy: &Policy| -> Vec<_> {
            policy.issuers.iter().map(|issuer| (Arc::clone(&issuer.issuer), Arc::clone(issuer))).collect()
        };
        let mut certificates = Kind::of("client certificates", &old.certificates, &new.certificates);
        if certificates.is_empty() && old.certificates != new.certificates {
            certificates.changed = new.certificates.iter().map(|(name, _)| Arc::clone(name)).collect();
        }
        Self {
            kinds: [
                Kind::of("principals", &listed(&old.principals), &listed(&new.principals)),
                Kind::of("API keys", &listed(&old.api_keys), &listed(&new.api_keys)),
                Kind::of("issuers", &issuers(old), &issuers(new)),
                certificates,
                tables,
            ],
        }
    }
}

fn listed<V: Clone>(map: &HashMap<Arc<str>, V>) -> Vec<(Arc<str>, V)> {
    map.iter().map(|(name, value)| (Arc::clone(name), value.clone())).collect()
}

impl Kind {
    fn of<V: PartialEq>(what: &'static str, old: &[(Arc<str>, V)], new: &[(Arc<str>, V)]) -> Self {
        let by_name = |list| -> BTreeMap<Arc<str>, &V> {
            <[(Arc<str>, V)]>::iter(list).map(|(name, value)| (Arc::clone(name), value)).collect()
        };
        let (old, new) = (by_name(old), by_name(new));
        let only_in = |these: &BTreeMap<Arc<str>, &V>, others: &BTreeMap<_, _>| {
            these.keys().filter(|name| !others.contains_key(*name)).map(Arc::clone).collect()
        };
        let differs = |(name, value): &(&Arc<str>, &&V)| old.get(*name).is_some_and(|old| old != *value);
        let changed = new.iter().filter(differs).map(|(name, _)| Arc::clone(name)).collect();
        Self { what, gone: only_in(&old, &new), new: only_in(&new, &old), changed }
    }

    fn is_empty(&self) -> bool {
        self.new.is_empty() && self.gone.is_empty() && self.changed.is_empty()
    }
}

impl fmt::Display for PolicyChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for kind in self.kinds.iter().filter(|kind| !kind.is_empty()) {
            write!(f, "{separator}{}: ", kind.what)?;
            separator = "; ";
            let mut comma = "";
            for (names, word) in [(&kind.new, "new"), (&kind.gone, "gone"), (&kind.changed, "changed")] {
                if names.is_empty() {
                    continue;
                }
                let shown = names.iter().take(LISTED_MAX).map(AsRef::as_ref).collect::<Vec<&str>>().join(", ");
                let more = if names.len() > LISTED_MAX { ", ..." } else { "" };
                write!(f, "{comma}{} {word} ({shown}{more})", names.len())?;
                comma = ", ";
            }
        }
        if separator.is_empty() { f.write_str("nothing") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::access::parse_access_file;

    fn changes(old: &str, new: &str) -> String {
        let parse = |text| parse_access_file(Path::new("access.yaml"), text).unwrap();
        PolicyChanges::between(&parse(old), &parse(new)).to_string()
    }

    fn key(id: &str, digit: char) -> String {
        format!("  - {{id: {id}, sha256: {}, principal: a}}\n", digit.to_string().repeat(64))
    }

    #[test]
    fn changes_are_told_by_kind_in_counts_and_names_and_without_hashes() {
        let old = format!("principals: {{a: {{}}, b: {{}}}}\napi_keys:\n{}{}", key("one", '1'), key("two", '2'));
        assert_eq!(changes(&old, &format!("# A remark.\n{old}")), "nothing");
        let new =
            format!("principals: {{a: {{read: [x]}}, c: {{}}}}\napi_keys:\n{}{}", key("two", '3'), key("six", '6'));
        assert_eq!(
            changes(&old, &new),
            "principals: 1 new (c), 1 gone (b), 1 changed (a); API keys: 1 new (six), 1 gone (one), 1 changed (two)"
        );
        let other = "client_certificates: [{name: 'dns:x', principal: a}]\nissuers: [{issuer: i, audiences: [x], jwks_file: k, \
                     algorithms: [ES256]}]";
        assert_eq!(
            changes("principals: {a: {}}", &format!("principals: {{a: {{}}}}\n{other}")),
            "issuers: 1 new (i); client certificates: 1 new (dns:x)"
        );
    }

    #[test]
    fn an_order_that_counts_is_a_change_and_long_lists_are_cut() {
        let tables = |first, second| {
            format!(
                "principals: {{a: {{}}}}\ntables: [{{tables: '{first}', limits: {{}}}}, {{tables: '{second}', limits: {{}}}}]"
            )
        };
        assert_eq!(changes(&tables("x*", "*"), &tables("*", "x*")), "table limits: 2 changed (*, x*)");
        let many: String = (0..20).map(|n| format!("  p{n:02}: {{}}\n")).collect();
        let text = changes("principals: {p00: {}}", &format!("principals:\n{many}"));
        assert_eq!(text, "principals: 19 new (p01, p02, p03, p04, p05, p06, p07, p08, ...)");
    }
}
