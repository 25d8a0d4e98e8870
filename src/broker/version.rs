//! Which RabbitMQ is it, and what follows from that? Arguments and the way of requeueing deliveries depend on it.

use std::fmt;

use crate::broker::settings::QueueType;

/// The version that a server tells when it is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

impl Version {
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// Reads `3.10.8`, `4.3.6+2.gabcdef`, `4.1.0-rc.1`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '-', '+']).map(|part| part.parse::<u16>().ok());
        let (major, minor) = (numbers.next()??, numbers.next()??);
        Some(Self { major, minor, patch: numbers.next().flatten().unwrap_or(0) })
    }

    /// From 4.0 on a quorum queue dead-letters at the 21st delivery unless it is told `x-delivery-limit=-1`. Before,
    /// that argument means to dead-letter at the first return.
    pub(crate) fn has_default_delivery_limit(self) -> bool {
        self >= Self::new(4, 0, 0)
    }

    /// From 4.3 on `basic.nack` is the one way of requeuing that does not count as a delivery. Before, closing is
    /// as good, and on 3.10 better: it keeps the order.
    pub(crate) fn nacks_are_free(self) -> bool {
        self >= Self::new(4, 3, 0)
    }

    /// From 4.0 on an `x-death` is the broker's own word; before, it adds to one that the publisher has sent.
    pub(crate) fn writes_deaths_alone(self) -> bool {
        self >= Self::new(4, 0, 0)
    }

    /// `basic.cancel` of the active consumer wedges a classic queue with a single active consumer
    /// (rabbitmq-server#5460).
    pub(crate) fn may_cancel(self, kind: QueueType) -> bool {
        kind == QueueType::Quorum || self >= Self::new(4, 0, 0)
    }

    /// Whether the broker takes deliveries back that are held for longer than the consumer timeout.
    pub(crate) fn has_consumer_timeout(self, kind: QueueType) -> bool {
        kind == QueueType::Quorum || self < Self::new(4, 3, 0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_write_them() {
        for (text, version) in [
            ("3.10.8", Some(Version::new(3, 10, 8))),
            ("4.3.6+2.gabcdef", Some(Version::new(4, 3, 6))),
            ("4.1.0-rc.1", Some(Version::new(4, 1, 0))),
            ("4.1", Some(Version::new(4, 1, 0))),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(Version::parse(text), version, "{text}");
        }
    }

    #[test]
    fn what_follows_from_the_version() {
        let (v310, v40, v43) =
            (Version::new(3, 10, 8), Version::new(4, 0, 5), Version::new(4, 3, 6));
        assert_eq!([v310, v40, v43].map(Version::has_default_delivery_limit), [false, true, true]);
        assert_eq!([v310, v40, v43].map(Version::nacks_are_free), [false, false, true]);
        assert_eq!([v310, v40, v43].map(|v| v.may_cancel(QueueType::Classic)), [false, true, true]);
        assert_eq!([v310, v40, v43].map(|v| v.may_cancel(QueueType::Quorum)), [true; 3]);
        assert_eq!(
            [v310, v40, v43].map(|v| v.has_consumer_timeout(QueueType::Classic)),
            [true, true, false]
        );
    }
}
