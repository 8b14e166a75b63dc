//! Which log lines are left out because they repeat: of one place in the code, so many in a window are shown and the rest are
//! counted. Pure: time is passed in. The caller is [`super::logging`].

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// See the module. `P` names a place.
#[derive(Debug)]
pub(super) struct Repeats<P> {
    shown_most: u32,
    window: Duration,
    /// As many as the program has places that log.
    places: HashMap<P, Place>,
}

#[derive(Debug)]
struct Place {
    /// When its window began, on the caller's clock.
    since: Duration,
    shown: u32,
    left_out: u64,
}

impl<P: Hash + Eq + Clone> Repeats<P> {
    /// Shows `shown_most` lines of a place in a window.
    pub(super) fn new(shown_most: u32, window: Duration) -> Self {
        Self { shown_most, window, places: HashMap::new() }
    }

    /// Whether a line is shown. One that is not is counted.
    pub(super) fn shows(&mut self, place: P, now: Duration) -> bool {
        let window = self.window;
        let place = self.places.entry(place).or_insert(Place { since: now, shown: 0, left_out: 0 });
        // While something is to be told, the window lasts until it is.
        if place.left_out == 0 && now.saturating_sub(place.since) >= window {
            (place.since, place.shown) = (now, 0);
        }
        let shows = place.shown < self.shown_most;
        place.shown += u32::from(shows);
        place.left_out += u64::from(!shows);
        shows
    }

    /// The places whose window is over, and how many lines of each were left out in it.
    pub(super) fn take_left_out(&mut self, now: Duration) -> Vec<(P, u64)> {
        let mut told = Vec::new();
        for (name, place) in &mut self.places {
            if place.left_out > 0 && now.saturating_sub(place.since) >= self.window {
                told.push((name.clone(), place.left_out));
                *place = Place { since: now, shown: 0, left_out: 0 };
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn repeats_are_counted_and_told_when_their_window_is_over() {
        let mut repeats = Repeats::new(3, WINDOW);
        let shown = (0..100).filter(|_| repeats.shows("a", at(1))).count();
        assert_eq!(shown, 3);
        assert_eq!(repeats.take_left_out(at(10)), [], "its window goes on until 11");
        assert_eq!(repeats.take_left_out(at(11)), [("a", 97)]);
        assert_eq!(repeats.take_left_out(at(30)), [], "it is told once");
        assert!(repeats.shows("a", at(30)), "a new window");
    }

    #[test]
    fn one_place_hides_no_other() {
        let mut repeats = Repeats::new(1, WINDOW);
        assert!(repeats.shows("loud", at(0)));
        assert!(!repeats.shows("loud", at(0)));
        assert!(repeats.shows("rare", at(0)));
        assert_eq!(repeats.take_left_out(at(10)), [("loud", 1)]);
    }

    #[test]
    fn lines_that_keep_their_distance_are_all_shown() {
        let mut repeats = Repeats::new(1, WINDOW);
        assert!((0..100).all(|line| repeats.shows("a", at(line * 10))));
        assert_eq!(repeats.take_left_out(at(10_000)), []);
    }

    #[test]
    fn what_was_left_out_is_told_however_late_it_is_asked_for() {
        let mut repeats = Repeats::new(1, WINDOW);
        (0..50).for_each(|second| {
            repeats.shows("a", at(second));
        });
        assert_eq!(repeats.take_left_out(at(50)), [("a", 49)], "no line is lost in silence");
    }
}
