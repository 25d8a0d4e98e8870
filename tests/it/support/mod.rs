//! What tests share.

pub(crate) mod bench;
pub(crate) mod browser;
pub(crate) mod cpu;
pub(crate) mod form;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod rabbit;
pub(crate) mod raw;
pub(crate) mod rig;
pub(crate) mod wait;
