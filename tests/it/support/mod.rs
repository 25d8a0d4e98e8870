//! What tests share.

pub(crate) mod bench;
pub(crate) mod rabbit;
