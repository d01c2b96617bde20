//! What an application meets: the configuration, delivery, errors, and the end.

mod config;
mod delivery;
mod ends;
mod misconfigured;
