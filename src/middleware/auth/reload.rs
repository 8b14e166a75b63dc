//! The access file, watched: when it changes, the policy in force does.
//!
//! The content is compared, not the time of the last change: where Kubernetes mounts a file, a link is turned to another
//! folder. A new file that is wrong changes nothing: the last good one stays in force, the log says what is wrong, and
//! `access_file_refused` is 1 until the file can be used.
//!
//! Caller: `server`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::access::{AccessFileError, Policy, PolicyChanges, PolicyWatch, parse_access_file, read_access_file};
use crate::limits::ACCESS_SETTLE;
use crate::telemetry::Instruments;
use crate::telemetry::instruments::OutcomeLabel;

/// How often a file that keeps changing is read before it is left to the next look.
const SETTLE_READS: u32 = 10;

/// What is there: a text, or why there is none.
type Read = Result<String, String>;

/// An access file, and the policy that it has put in force.
#[derive(Debug)]
pub struct WatchedFile {
    path: PathBuf,
    policy: watch::Sender<Arc<Policy>>,
    last: Read,
}

impl WatchedFile {
    /// Reads the file, which has to be good.
    ///
    /// # Errors
    ///
    /// Where it cannot be read, or says what cannot be meant.
    pub fn open(path: PathBuf) -> Result<Self, AccessFileError> {
        let text = read_access_file(&path)?;
        let policy = parse_access_file(&path, &text)?;
        Ok(Self { path, policy: watch::Sender::new(Arc::new(policy)), last: Ok(text) })
    }

    /// The policy in force, and the next ones.
    pub fn policy(&self) -> PolicyWatch {
        self.policy.subscribe()
    }

    /// Looks at the file until the end.
    pub async fn watch(mut self, every: Duration, instruments: Arc<Instruments>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Some(read) = self.changed().await {
                self.take(read, &instruments).await;
            }
        }
    }

    /// What is there, if it is not what was there. Half of a file may be a good one that lacks the last keys: what is new
    /// counts when it is the same twice.
    async fn changed(&self) -> Option<Read> {
        let mut read = self.read().await;
        for _ in 0..SETTLE_READS {
            if read == self.last {
                return None;
            }
            tokio::time::sleep(ACCESS_SETTLE).await;
            let again = self.read().await;
            if again == read {
                return Some(read);
            }
            read = again;
        }
        None
    }

    async fn read(&self) -> Read {
        let path = self.path.clone();
        aside(move || read_access_file(&path)).await
    }

    /// Puts what is there in force, if it is good.
    async fn take(&mut self, read: Read, instruments: &Instruments) {
        self.last.clone_from(&read);
        let next = match read {
            Ok(text) => {
                let path = self.path.clone();
                aside(move || parse_access_file(&path, &text)).await
            }
            Err(error) => Err(error),
        };
        let (outcome, is_refused) = match next {
            Ok(next) => {
                self.put_in_force(next);
                ("applied", 0)
            }
            Err(error) => {
                tracing::error!("the new access file is refused, the one before stays in force: {error}");
                ("refused", 1)
            }
        };
        instruments.access_reloads.get_or_create(&OutcomeLabel { outcome }).inc();
        instruments.access_file_refused.set(is_refused);
    }

    fn put_in_force(&self, next: Policy) {
        let changes = PolicyChanges::between(&self.policy.borrow(), &next);
        tracing::info!("access file {} read again; changes: {changes}", self.path.display());
        // Open streams need not wake for a remark in the file.
        self.policy.send_if_modified(|policy| {
            let is_other = **policy != next;
            if is_other {
                *policy = Arc::new(next);
            }
            is_other
        });
    }
}

/// Does what may block on a thread that may, with the error in words.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AccessFileError> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(error) => Err(format!("the access file could not be looked at: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const GOOD: &str = "principals: {a: {read: [x]}}\n";
    const EVERY: Duration = Duration::from_millis(5);

    struct Watched {
        policy: PolicyWatch,
        instruments: Arc<Instruments>,
        path: PathBuf,
        _folder: tempfile::TempDir,
        _stop: tokio_util::sync::DropGuard,
    }

    impl Watched {
        /// A file that is being watched.
        fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("access.yaml");
            std::fs::write(&path, GOOD).unwrap();
            let file = WatchedFile::open(path.clone()).unwrap();
            let (policy, instruments, stop) = (file.policy(), Arc::new(Instruments::new()), CancellationToken::new());
            tokio::spawn(file.watch(EVERY, Arc::clone(&instruments), stop.clone()));
            Self { policy, instruments, path, _folder: folder, _stop: stop.drop_guard() }
        }

        /// Puts a text into the file at once, as a rename does.
        fn write(&self, text: &str) {
            let new = self.path.with_extension("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, &self.path).unwrap();
        }

        fn reloads(&self, outcome: &'static str) -> u64 {
            self.instruments.access_reloads.get_or_create(&OutcomeLabel { outcome }).get()
        }

        async fn until_reloads(&self, outcome: &'static str, count: u64) {
            let wait = async {
                while self.reloads(outcome) < count {
                    tokio::time::sleep(EVERY).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), wait).await.expect(outcome);
        }
    }

    #[test]
    fn a_file_that_is_wrong_at_the_start_gives_no_policy() {
        let error = WatchedFile::open(Path::new("/nowhere/access.yaml").to_owned()).unwrap_err();
        assert!(matches!(error, AccessFileError::Read { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_new_file_counts_and_a_wrong_one_leaves_the_last_good_one_in_force() {
        let watched = Watched::start();
        let mut policy = watched.policy.clone();
        watched.write("principals: {a: {}, b: {}}");
        policy.changed().await.unwrap();
        assert!(policy.borrow_and_update().principal("b").is_some());
        watched.until_reloads("applied", 1).await;
        assert_eq!(watched.instruments.access_file_refused.get(), 0);

        watched.write("principals: {a: {reed: [x]}}");
        watched.until_reloads("refused", 1).await;
        assert_eq!(watched.instruments.access_file_refused.get(), 1);
        std::fs::remove_file(&watched.path).unwrap();
        watched.until_reloads("refused", 2).await;
        assert!(!policy.has_changed().unwrap(), "the last good one stays");

        // The same as what is in force: nothing changes, but the file is good again.
        watched.write("principals: {a: {}, b: {}}");
        watched.until_reloads("applied", 2).await;
        assert_eq!(watched.instruments.access_file_refused.get(), 0);
        assert!(!policy.has_changed().unwrap());
        assert_eq!((watched.reloads("applied"), watched.reloads("refused")), (2, 2), "each told once");
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_does_not_count_before_it_is_whole() {
        let watched = Watched::start();
        let mut policy = watched.policy.clone();
        // Each part is a good file for itself, and comes before the one before it was read twice.
        let mut text = "principals:\n".to_owned();
        for n in 0..8 {
            text.push_str(&format!("  p{n}: {{}}\n"));
            watched.write(&text);
            tokio::time::sleep(ACCESS_SETTLE / 3).await;
        }
        policy.changed().await.unwrap();
        assert_eq!(policy.borrow().principals.len(), 8);
        assert_eq!(watched.reloads("applied"), 1);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_link_that_is_turned_to_another_folder_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("v1", GOOD), ("v2", "principals: {b: {}}")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("access.yaml"), text).unwrap();
        }
        // As Kubernetes does: the file is a link into `..data`, which is a link to the version.
        std::os::unix::fs::symlink(at("v1"), at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/access.yaml", at("access.yaml")).unwrap();
        let file = WatchedFile::open(at("access.yaml")).unwrap();
        let mut policy = file.policy();
        let stop = CancellationToken::new();
        tokio::spawn(file.watch(EVERY, Arc::new(Instruments::new()), stop.clone()));
        std::os::unix::fs::symlink(at("v2"), at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        policy.changed().await.unwrap();
        assert!(policy.borrow().principal("b").is_some());
        stop.cancel();
    }
}
