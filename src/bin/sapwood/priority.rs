//! Making way for the process that appends.

/// Lets every other process go first from now on. Whoever reads a whole directory on all cores takes
/// what the application that holds it leaves, and nothing where it leaves nothing.
pub(crate) fn yield_to_others() {
    const LOWEST: i32 = 19;
    // Anybody may lower a priority. Where that is refused all the same, nothing is wrong with what is
    // read, and an application that is short of processors is slower meanwhile.
    let _refused = rustix::process::setpriority_process(None, LOWEST);
}

#[cfg(test)]
mod tests {
    use super::yield_to_others;

    #[test]
    fn who_yields_has_the_lowest_priority() {
        // Priorities are those of threads where this is tested.
        let yielded = std::thread::spawn(|| {
            yield_to_others();
            rustix::process::getpriority_process(None)
        });
        assert_eq!(yielded.join().unwrap(), Ok(19));
    }
}
