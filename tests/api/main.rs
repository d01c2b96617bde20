//! What an application meets: the configuration, delivery, errors, and the end.

mod clouds;
mod config;
mod delivery;
mod ends;
mod misconfigured;
