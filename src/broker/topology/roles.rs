//! Who needs which rights on the broker? Four roles, each as the permissions that RabbitMQ has: patterns on names for
//! configure, write and read, and patterns on the routing keys of topic exchanges.
//!
//! No role has the default exchange (`amq.default`): who may write there writes to every queue.

use std::fmt::Write as _;

use serde::Serialize;

use super::objects::{Object, objects};
use crate::broker::settings::Queues;
use crate::broker::version::Version;

/// What somebody does with Sluicegate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Enqueues plans, watches them, cancels, holds and moves what waits
    Planner,
    /// `sluice run`: everything of this prefix
    Worker,
    /// Reviews dead letters
    Reviewer,
    /// Looks at and steers the gate
    Operator,
}

/// What a role needs. All texts are regular expressions, as RabbitMQ has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rights {
    pub configure: String,
    pub write: String,
    pub read: String,
    /// Where its routing keys are limited, too.
    pub topics: Vec<TopicRights>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopicRights {
    pub exchange: String,
    pub write: String,
    pub read: String,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Planner, Self::Worker, Self::Reviewer, Self::Operator];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planner => "planner",
            Self::Worker => "worker",
            Self::Reviewer => "reviewer",
            Self::Operator => "operator",
        }
    }

    /// What the role is for, in a line.
    pub fn does(self) -> &'static str {
        match self {
            Self::Planner => {
                "publishes requests, announces batches, reads results, orders about what waits"
            }
            Self::Worker => "everything, of this prefix",
            Self::Reviewer => "takes, replays, discards and puts back dead letters, keeps the acts",
            Self::Operator => "steers the gate and what waits, reads results and the audit",
        }
    }

    /// What it needs on the broker.
    pub fn rights(self, queues: &Queues) -> Rights {
        let (configure, write, read) = self.names(queues);
        let commands = |write: &str| {
            vec![TopicRights {
                exchange: queues.control(),
                write: write.to_owned(),
                // Nobody but the worker binds a queue to it.
                read: "^$".to_owned(),
            }]
        };
        let topics = match self {
            Self::Planner => {
                let mut topics = commands(r"^(ask\.[a-z]+|batch\.(cancel|hold|release|move))$");
                topics.push(TopicRights {
                    exchange: queues.batches(),
                    write: r"^batch\.[A-Za-z0-9_-]+$".to_owned(),
                    read: "^$".to_owned(),
                });
                topics
            }
            Self::Operator => commands(r"^(ask|gate|batch)\.[a-z]+$"),
            Self::Worker | Self::Reviewer => Vec::new(),
        };
        let [configure, write, read] = [configure, write, read].map(|names| any_of(queues, &names));
        Rights { configure, write, read, topics }
    }

    /// The patterns of the names, without the prefix.
    fn names(self, queues: &Queues) -> (Vec<String>, Vec<String>, Vec<String>) {
        let start = format!("{}.", queues.prefix);
        let name = |full: String| escaped(full.strip_prefix(&start).unwrap_or(&full));
        let names = |full: Vec<String>| full.into_iter().map(name).collect::<Vec<_>>();
        // The queue that an answer comes back to.
        let with_own = |full: Vec<String>| {
            let mut all = names(full);
            all.push(OWN.to_owned());
            all
        };
        match self {
            Self::Planner => (
                with_own(vec![queues.leasing()]),
                with_own(vec![queues.enqueue(), queues.batches(), queues.control()]),
                with_own(vec![queues.results_log(), queues.answers()]),
            ),
            Self::Worker => {
                // The names are the same for every version.
                let all = objects(queues, Version::new(4, 0, 0)).into_iter().filter_map(|object| {
                    match object {
                        Object::Exchange { name, .. } | Object::Queue { name, .. } => Some(name),
                        Object::Binding { .. } => None,
                    }
                });
                let mut all: Vec<String> =
                    all.chain([queues.leasing(), queues.reviewer()]).collect();
                all.sort_unstable();
                all.dedup();
                let all = with_own(all);
                (all.clone(), all.clone(), all)
            }
            Self::Reviewer => {
                // From RabbitMQ 4.3 on it takes the right to configure a queue to see how many messages it has.
                let own = names(vec![queues.dead_letters(), queues.reviewing(), queues.reviewer()]);
                let read = [
                    queues.dead_letters(),
                    queues.reviewing(),
                    queues.reviewer(),
                    queues.review(),
                    queues.audit(),
                ];
                (own, names(vec![queues.review(), queues.reviewer()]), names(read.to_vec()))
            }
            Self::Operator => (
                with_own(Vec::new()),
                with_own(vec![queues.control()]),
                with_own(vec![queues.answers(), queues.results_log(), queues.audit()]),
            ),
        }
    }
}

/// The queues that a worker, and whoever asks one, makes for itself; they go with their connection.
const OWN: &str = "control\\.[0-9a-f]{32}";

fn any_of(queues: &Queues, names: &[String]) -> String {
    let prefix = escaped(&queues.prefix);
    match names {
        [] => "^$".to_owned(),
        [one] => format!("^{prefix}\\.{one}$"),
        _ => format!("^{prefix}\\.({})$", names.join("|")),
    }
}

/// A name as a pattern that it alone matches.
fn escaped(name: &str) -> String {
    let special = |c: char| !c.is_alphanumeric() && !matches!(c, '-' | '_');
    name.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

impl Rights {
    /// The lines that give them to a user who exists, for a shell.
    pub fn rabbitmqctl(&self, user: &str, vhost: &str) -> String {
        let Self { configure, write, read, topics } = self;
        let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let (user, vhost) = (quoted(user), quoted(vhost));
        let mut lines = format!(
            "rabbitmqctl set_permissions -p {vhost} {user} {} {} {}\n",
            quoted(configure),
            quoted(write),
            quoted(read)
        );
        for TopicRights { exchange, write, read } in topics {
            let (exchange, write, read) = (quoted(exchange), quoted(write), quoted(read));
            let _ = writeln!(
                lines,
                "rabbitmqctl set_topic_permissions -p {vhost} {user} {exchange} {write} {read}"
            );
        }
        lines
    }

    /// The lines of `rabbitmq.conf` that give them to the user with which a broker begins. It has no place for topics.
    pub fn conf(&self) -> String {
        let Self { configure, write, read, .. } = self;
        format!(
            "default_permissions.configure = {configure}\ndefault_permissions.write = {write}\ndefault_permissions.read = {read}\n"
        )
    }
}
