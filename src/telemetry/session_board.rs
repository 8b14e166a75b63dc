//! The board of open write sessions: who writes what, how fast, and what is not acked yet.
//!
//! A session takes a [`Seat`] when it opens and leaves it when it is dropped, however it ends. What the board shows of it is
//! brought up to date per batch, under a lock that only the session and a look at the board share. Bounded: a session that
//! finds the board full is not listed, which the look says. Time is passed in. Callers: `api::ingest` sits, `admin` looks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::SESSION_BOARD_MAX_SESSIONS;

/// After this time a row counts for 1/e in a session's rate: long enough that batches make no saw-tooth.
const RATE_MEMORY: Duration = Duration::from_secs(3);

/// Where a session is in its work. Totals since it opened, and what is open now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows received.
    pub rows: u64,
    /// Bytes of batches received.
    pub bytes: u64,
    /// Batches without an ack.
    pub unacked_batches: u64,
    /// Their bytes.
    pub unacked_bytes: u64,
    /// When the oldest of them was received.
    pub oldest_unacked: Option<Instant>,
}

/// A session, as the board shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionLine {
    /// Its name, as in the log and in `Opened`.
    pub session: String,
    /// The table.
    pub table: String,
    /// Who writes.
    pub principal: Arc<str>,
    /// Since when it is open.
    pub open_for: Duration,
    /// Rows received.
    pub rows: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Rows a second, lately.
    pub rows_per_second: f64,
    /// Bytes a second, lately.
    pub bytes_per_second: f64,
    /// Batches without an ack.
    pub unacked_batches: u64,
    /// Their bytes.
    pub unacked_bytes: u64,
    /// The age of the oldest of them.
    pub oldest_unacked: Option<Duration>,
}

/// The board. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SessionBoard(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    next: u64,
    by_seat: BTreeMap<u64, Line>,
    ticked_at: Option<Instant>,
}

#[derive(Debug)]
struct Line {
    session: String,
    table: String,
    principal: Arc<str>,
    since: Instant,
    progress: Arc<Mutex<Progress>>,
    at_tick: Progress,
    rows_per_second: f64,
    bytes_per_second: f64,
}

/// A session's place on the board, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    board: SessionBoard,
    /// `None` where the board was full.
    number: Option<u64>,
    progress: Arc<Mutex<Progress>>,
}

impl SessionBoard {
    /// Takes a seat for a session.
    pub fn enter(&self, session: &str, table: &str, principal: Arc<str>, now: Instant) -> Seat {
        let progress = Arc::new(Mutex::new(Progress::default()));
        let mut lines = self.lines();
        let number = (lines.by_seat.len() < SESSION_BOARD_MAX_SESSIONS).then(|| {
            lines.next += 1;
            lines.next
        });
        if let Some(number) = number {
            let line = Line {
                session: session.to_owned(),
                table: table.to_owned(),
                principal,
                since: now,
                progress: Arc::clone(&progress),
                at_tick: Progress::default(),
                rows_per_second: 0.0,
                bytes_per_second: 0.0,
            };
            lines.by_seat.insert(number, line);
        }
        drop(lines);
        Seat { board: self.clone(), number, progress }
    }

    /// Learns how fast the sessions are. To be called about once a second.
    pub fn tick(&self, now: Instant) {
        let mut lines = self.lines();
        let Some(before) = lines.ticked_at.replace(now) else { return };
        let elapsed = now.saturating_duration_since(before);
        if elapsed.is_zero() {
            return;
        }
        let fading = (-elapsed.div_duration_f64(RATE_MEMORY)).exp();
        for line in lines.by_seat.values_mut() {
            let progress = *locked(&line.progress);
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed.as_secs_f64();
            let blend = |old: f64, new: f64| old * fading + new * (1.0 - fading);
            line.rows_per_second = blend(line.rows_per_second, rate(progress.rows, line.at_tick.rows));
            line.bytes_per_second = blend(line.bytes_per_second, rate(progress.bytes, line.at_tick.bytes));
            line.at_tick = progress;
        }
    }

    /// Some of the sessions, in the order in which they were opened, and how many are on the board: those that have waited
    /// longest for an ack, then the fastest.
    pub fn list(&self, most: usize, now: Instant) -> (Vec<SessionLine>, usize) {
        let lines = self.lines();
        let mut seen: Vec<(u64, SessionLine)> =
            lines.by_seat.iter().map(|(number, line)| (*number, line.shown(now))).collect();
        drop(lines);
        let total = seen.len();
        if total > most {
            /// Waiting this much longer is worth more than being fast.
            const NOTABLE: Duration = Duration::from_secs(5);
            let waits = |line: &SessionLine| line.oldest_unacked.unwrap_or_default().as_secs() / NOTABLE.as_secs();
            seen.sort_by(|(_, a), (_, b)| {
                waits(b).cmp(&waits(a)).then(b.rows_per_second.total_cmp(&a.rows_per_second))
            });
            seen.truncate(most);
            seen.sort_by_key(|(number, _)| *number);
        }
        (seen.into_iter().map(|(_, line)| line).collect(), total)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        locked(&self.0)
    }
}

impl Line {
    fn shown(&self, now: Instant) -> SessionLine {
        let progress = *locked(&self.progress);
        SessionLine {
            session: self.session.clone(),
            table: self.table.clone(),
            principal: Arc::clone(&self.principal),
            open_for: now.saturating_duration_since(self.since),
            rows: progress.rows,
            bytes: progress.bytes,
            rows_per_second: self.rows_per_second,
            bytes_per_second: self.bytes_per_second,
            unacked_batches: progress.unacked_batches,
            unacked_bytes: progress.unacked_bytes,
            oldest_unacked: progress.oldest_unacked.map(|at| now.saturating_duration_since(at)),
        }
    }
}

impl Seat {
    /// Shows how far the session is.
    pub fn show(&self, progress: Progress) {
        *locked(&self.progress) = progress;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.board.lines().by_seat.remove(&number);
        }
    }
}

/// A panic elsewhere leaves plain numbers behind, which stay true.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_session_is_on_the_board_until_its_seat_is_dropped() {
        let (board, start) = (SessionBoard::default(), Instant::now());
        let seat = board.enter("s-1", "cards", "spark".into(), start);
        let oldest_unacked = Some(start + seconds(2));
        seat.show(Progress { rows: 500, bytes: 9_000, unacked_batches: 2, unacked_bytes: 4_000, oldest_unacked });
        let (lines, total) = board.list(10, start + seconds(5));
        assert_eq!(total, 1);
        let line = &lines[0];
        assert_eq!((&*line.session, &*line.table, &*line.principal), ("s-1", "cards", "spark"));
        assert_eq!((line.open_for, line.oldest_unacked), (seconds(5), Some(seconds(3))));
        assert_eq!((line.rows, line.unacked_batches, line.unacked_bytes), (500, 2, 4_000));
        drop(seat);
        assert_eq!(board.list(10, start).1, 0);
    }

    #[test]
    fn a_steady_session_shows_its_rate_and_a_silent_one_comes_to_rest() {
        let (board, start) = (SessionBoard::default(), Instant::now());
        let seat = board.enter("s-1", "cards", "spark".into(), start);
        let rate = |at| board.list(1, at).0[0].rows_per_second;
        for second in 0..30 {
            seat.show(Progress { rows: second * 1_000, ..Progress::default() });
            board.tick(start + seconds(second));
        }
        assert!((990.0..=1_000.0).contains(&rate(start)), "{}", rate(start));
        for second in 30..60 {
            board.tick(start + seconds(second));
        }
        assert!(rate(start) < 1.0, "{}", rate(start));
    }

    #[test]
    fn a_crowded_list_keeps_those_that_wait_and_then_the_fastest_in_the_order_of_their_opening() {
        let (board, start) = (SessionBoard::default(), Instant::now());
        let seats: Vec<_> = (0..6).map(|i| board.enter(&format!("s-{i}"), "t", "p".into(), start)).collect();
        board.tick(start);
        for (rows, seat) in [10, 0, 30, 20, 0, 40].into_iter().zip(&seats) {
            seat.show(Progress { rows, ..Progress::default() });
        }
        seats[4].show(Progress { oldest_unacked: Some(start), ..Progress::default() });
        board.tick(start + seconds(1));
        let (lines, total) = board.list(3, start + seconds(20));
        let names: Vec<_> = lines.iter().map(|line| &*line.session).collect();
        assert_eq!((&names[..], total), (&["s-2", "s-4", "s-5"][..], 6));
    }

    #[test]
    fn a_full_board_lists_no_more_and_has_room_again_later() {
        let (board, now) = (SessionBoard::default(), Instant::now());
        let mut seats: Vec<_> =
            (0..=SESSION_BOARD_MAX_SESSIONS).map(|_| board.enter("s", "t", "p".into(), now)).collect();
        assert_eq!(board.list(1, now).1, SESSION_BOARD_MAX_SESSIONS);
        seats.truncate(SESSION_BOARD_MAX_SESSIONS - 1);
        let _one = board.enter("late", "t", "p".into(), now);
        assert_eq!(board.list(1, now).1, SESSION_BOARD_MAX_SESSIONS);
    }
}
