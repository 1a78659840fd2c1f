//! Calendars, each made once, and what they answered: most clients share their windows, and most questions repeat.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    ObjectName,
    window::{Calendar, NextOpening, Purpose, Span, WindowAction},
};

use super::classes::Class;

type Windows<'a> = (Vec<&'a ObjectName>, &'a str);

/// The calendars of one side. Windows of one name say the same everywhere on one side.
#[derive(Default)]
pub(super) struct Openings<'a> {
    books: RefCell<BTreeMap<Windows<'a>, Rc<Book>>>,
}

/// A calendar with its answers.
pub(super) struct Book {
    pub calendar: Calendar,
    answers: RefCell<BTreeMap<(Timestamp, SignedDuration), NextOpening>>,
}

impl<'a> Openings<'a> {
    /// For installations by this class.
    pub(super) fn of(&self, class: &Class<'a>) -> Rc<Book> {
        Rc::clone(class.book.get_or_init(|| self.find(class)))
    }

    fn find(&self, class: &Class<'a>) -> Rc<Book> {
        let windows = &class.body.windows;
        let key = (windows.iter().map(|window| &window.name).collect(), class.zone_name);
        let make = || {
            Rc::new(Book {
                calendar: Calendar::new(windows, Purpose::Install, &class.zone),
                answers: RefCell::default(),
            })
        };
        Rc::clone(self.books.borrow_mut().entry(key).or_insert_with(make))
    }
}

impl Book {
    /// The next opening of at least `need`, remembered.
    pub(super) fn next(&self, from: Timestamp, need: SignedDuration) -> NextOpening {
        *self
            .answers
            .borrow_mut()
            .entry((from, need))
            .or_insert_with(|| self.calendar.next_opening(from, need))
    }

    /// Whether some window has to be open for an installation.
    pub(super) fn binds(&self) -> bool {
        self.calendar.windows().any(|window| window.action == WindowAction::Allow)
    }

    /// Openings that begin or go on between `from` and `to` and have room for `need`.
    pub(super) fn between(&self, from: Timestamp, to: Timestamp, need: SignedDuration) -> Vec<Span> {
        let begun = self.calendar.openings(from).take_while(|span| span.start <= to);
        begun.filter(|span| span.length() >= need).collect()
    }

    /// The windows that allow something at `at`.
    pub(super) fn allowing(&self, at: Timestamp) -> Vec<ObjectName> {
        let mut names: Vec<ObjectName> = self
            .calendar
            .governing(at)
            .into_iter()
            .filter(|window| window.action == WindowAction::Allow)
            .map(|window| window.name.clone())
            .collect();
        names.sort();
        names
    }

    /// Time that is open within `span`.
    pub(super) fn open_time(&self, span: Span) -> SignedDuration {
        let openings = self.calendar.openings(span.start).take_while(|opening| opening.start < span.end);
        openings.fold(SignedDuration::ZERO, |sum, opening| {
            let inside = Span { start: opening.start.max(span.start), end: opening.end.min(span.end) };
            sum.saturating_add(inside.length())
        })
    }
}
