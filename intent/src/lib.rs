//! What people wrote, in the form in which the planner takes it: YAML documents with the place of every value
//! ([`yaml`]), and the spec of each kind as a validated object of the domain. Pure: no I/O, no clock, no cluster, so
//! that the controller, `kubectl patchtide plan` and the simulator read the same file in the same way. The one exception is
//! [`yaml::tree`], which reads the files of a commit from an object database on this machine.

pub mod client_settings;
pub mod collection;
pub mod deployment_template;
pub mod distribution_point;
pub mod maintenance_window;
pub mod problem;
pub mod resolve;
pub mod search_folder;
#[cfg(test)]
mod testing;
pub mod update_deployment;
pub mod update_list;
pub mod yaml;

pub use problem::Problem;
