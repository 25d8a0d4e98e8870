//! What tests share.

pub(crate) mod rabbit;
pub(crate) mod bench;
