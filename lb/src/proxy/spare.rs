//! The headers of a request once more, for the case that it must be sent again: hyper takes those that it sends.
//!
//! A list without an index, and its memory goes from request to request: copying the map itself costs two allocations and
//! one more for each field that was made here.

use std::cell::RefCell;

use http::{HeaderMap, HeaderName, HeaderValue};

type Fields = Vec<(HeaderName, HeaderValue)>;

/// Lists that nobody uses at the moment; one per worker.
#[derive(Debug, Default)]
pub(crate) struct Spares(RefCell<Vec<Fields>>);

/// One copy; its memory goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Spare<'a> {
    fields: Fields,
    home: &'a Spares,
}

impl Spares {
    pub(super) fn copy(&self, headers: &HeaderMap) -> Spare<'_> {
        let mut fields = self.0.borrow_mut().pop().unwrap_or_default();
        fields.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        Spare { fields, home: self }
    }
}

impl Spare<'_> {
    pub(super) fn to_map(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.fields.len());
        for (name, value) in &self.fields {
            headers.append(name, value.clone());
        }
        headers
    }
}

impl Drop for Spare<'_> {
    fn drop(&mut self) {
        self.fields.clear();
        self.home.0.borrow_mut().push(std::mem::take(&mut self.fields));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_every_line_in_order_and_its_memory_is_used_again() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let spares = Spares::default();
        let spare = spares.copy(&headers);
        assert_eq!(spare.to_map(), headers);
        drop(spare);
        assert_eq!(spares.0.borrow().len(), 1);
        let (one, other) = (spares.copy(&headers), spares.copy(&HeaderMap::new()));
        assert_eq!((one.to_map(), other.to_map()), (headers, HeaderMap::new()));
        drop((one, other));
        assert_eq!(spares.0.borrow().len(), 2);
    }
}
