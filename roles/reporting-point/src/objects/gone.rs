//! What is left of objects that are no more.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Kind, Object};

/// An object that is no more: what is left of it is its name.
pub(super) struct Gone {
    name: String,
    columns: usize,
}

impl Gone {
    /// What stood at this place in lists.
    pub(super) fn new(kind: &dyn Kind, key: &str) -> Self {
        Self { name: kind.name_of(key), columns: kind.columns().len() }
    }
}

impl Object for Gone {
    fn key(&self) -> String {
        String::new()
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn uid(&self) -> String {
        String::new()
    }

    fn digest(&self) -> u64 {
        0
    }

    fn body(&self) -> Value {
        Map::new().into()
    }

    fn cells(&self, _: Timestamp) -> Vec<Value> {
        let mut cells = vec![Value::Null; self.columns];
        if let Some(first) = cells.first_mut() {
            *first = self.name.as_str().into();
        }
        cells
    }
}
