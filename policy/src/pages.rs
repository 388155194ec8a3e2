//! Lists that live as long as a policy and may hold hundreds of thousands of things.
//!
//! A vector that is full moves to a larger place, and for that moment both are held; the memory of a Wasm module never
//! shrinks, so that moment lasts as long as the module. These lists grow by a page, and nothing moves.

/// Elements of a page.
const PAGE: usize = 1 << 12;

/// A list in pages. Elements are known by their numbers, which need not be without gaps.
#[derive(Debug)]
pub(crate) struct Pages<T> {
    /// Each but the last is as long as it will ever be; none is longer than [`PAGE`].
    pages: Vec<Vec<T>>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Pages<T> {
    /// Adds an element and returns its number.
    pub(crate) fn push(&mut self, value: T) -> u32 {
        let number = self.keep_together(1);
        if let Some(page) = self.pages.last_mut() {
            page.push(value);
        }
        number
    }

    /// Makes room for so many elements (a page at most) side by side, and returns the number of the next one.
    pub(crate) fn keep_together(&mut self, count: usize) -> u32 {
        if self.pages.last().is_none_or(|page| page.len() + count > PAGE) {
            // A small policy does not pay for a whole page.
            let first = self.pages.is_empty();
            self.pages.push(if first { Vec::new() } else { Vec::with_capacity(PAGE) });
        }
        let length = self.pages.last().map_or(0, Vec::len);
        ((self.pages.len() - 1) * PAGE + length) as u32
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let number = number as usize;
        self.pages.get(number / PAGE)?.get(number % PAGE)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let number = number as usize;
        self.pages.get_mut(number / PAGE)?.get_mut(number % PAGE)
    }

    /// So many elements that were kept together, from this one.
    pub(crate) fn slice(&self, number: u32, count: usize) -> &[T] {
        let (page, start) = (number as usize / PAGE, number as usize % PAGE);
        self.pages.get(page).and_then(|page| page.get(start..start + count)).unwrap_or_default()
    }

    /// Gives back what the last page has too much.
    pub(crate) fn shrink(&mut self) {
        self.pages.shrink_to_fit();
        if let Some(page) = self.pages.last_mut() {
            page.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_found_by_its_number_whatever_the_gaps() {
        let mut pages = Pages::default();
        let mut runs = Vec::new();
        for run in 0..3_000 {
            let count = run % 33;
            let number = pages.keep_together(count);
            for step in 0..count {
                assert_eq!(pages.push((run, step)), number + step as u32, "{run}");
            }
            runs.push((number, count));
        }
        pages.shrink();
        for (run, (number, count)) in runs.into_iter().enumerate() {
            let expected: Vec<_> = (0..count).map(|step| (run, step)).collect();
            assert_eq!(pages.slice(number, count), expected, "{run}");
            for step in 0..count {
                assert_eq!(pages.get(number + step as u32), Some(&(run, step)));
                assert_eq!(pages.get_mut(number + step as u32), Some(&mut (run, step)));
            }
        }
        assert_eq!(pages.get(u32::MAX), None);
    }
}
