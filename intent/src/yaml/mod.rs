//! Documents of YAML files: read under limits, checked against the schemas of our kinds, each finding with its place.

pub mod document;
pub mod object;
pub mod schema;
pub mod tree;
pub mod verdict;
