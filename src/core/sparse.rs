//! What of a request do few requests have? It takes a pointer until something is written to it: a window holds many.

use std::ops::{Deref, DerefMut};

/// What stands there where nothing has been written.
pub trait Blank: Default + 'static {
    const BLANK: &'static Self;
}

/// A value that is mostly its default.
#[derive(Clone, Debug, Default)]
pub struct Sparse<T>(Option<Box<T>>);

impl<T: Blank + PartialEq> Sparse<T> {
    pub fn new(value: T) -> Self {
        Self((value != *T::BLANK).then(|| Box::new(value)))
    }
}

impl<T> Sparse<T> {
    /// Whether nothing has been written to it: it holds no memory of its own.
    pub fn is_blank(&self) -> bool {
        self.0.is_none()
    }
}

impl<T: Blank> Deref for Sparse<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::BLANK)
    }
}

impl<T: Blank> DerefMut for Sparse<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}
