//! What does a code of the API mean for people: what it says, whose it is, what the worker does about it, and what they do?

use serde::Serialize;

use super::codes::{self, Class, CodeRow};

/// One row of the table, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    pub code: String,
    /// The status that it comes with, or a class of them (`4xx`); `*`: any.
    pub status: String,
    pub class: &'static str,
    pub meaning: &'static str,
    pub whose: &'static str,
    pub worker: &'static str,
    pub people: &'static str,
}

/// What is known of a code (`SMS.6603`, or `6603` of SMS) or of a bare status (`429`): every row of it. Empty: nothing.
pub fn explain(asked: &str) -> Vec<Explained> {
    let asked = asked.trim();
    let number = !asked.is_empty() && asked.bytes().all(|byte| byte.is_ascii_digit());
    let code = match asked.split_once('.') {
        // The gateway writes its name in two ways.
        Some((service, rest)) if service.eq_ignore_ascii_case("APIG") => format!("APIGW.{rest}"),
        Some(_) => asked.to_owned(),
        None if number => format!("SMS.{asked}"),
        None => return Vec::new(),
    };
    let of_code: Vec<Explained> = codes::rows()
        .filter(|row| row.code.eq_ignore_ascii_case(&code))
        .map(Explained::of)
        .collect();
    // A status is a number too, and no code of SMS has three digits.
    match asked.parse::<u16>() {
        Ok(status) if of_code.is_empty() && (300..600).contains(&status) => {
            let row = codes::find(None, status);
            vec![Explained { status: status.to_string(), ..Explained::of(row) }]
        }
        _ => of_code,
    }
}

/// Codes of the table that are written alike, at most `most`.
pub fn alike(asked: &str, most: usize) -> Vec<&'static str> {
    let asked = asked.trim().to_uppercase();
    let mut all: Vec<(usize, &str)> = codes::rows()
        .filter(|row| row.code.contains('.'))
        .map(|row| (strsim::osa_distance(&row.code.to_uppercase(), &asked), row.code))
        .filter(|(distance, _)| *distance <= 2)
        .collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().map(|(_, code)| code).take(most).collect()
}

impl Explained {
    fn of(row: CodeRow) -> Self {
        let (class, whose, worker, people) = words(row.class);
        Self {
            code: row.code.to_owned(),
            status: row.status.to_owned(),
            class,
            meaning: row.meaning,
            whose,
            worker,
            people,
        }
    }
}

/// Class, whose it is, what the worker does, what people do.
fn words(class: Class) -> (&'static str, &'static str, &'static str, &'static str) {
    match class {
        Class::Rejected => (
            "rejected",
            "the request's, or its server's",
            "it becomes a dead letter with the outcome `rejected`; nothing else waits for it",
            "fix the request (`sluice dead-letters edit --cause CODE --set FIELD=VALUE`) or the server, then `sluice dead-letters replay --cause CODE`",
        ),
        Class::Conflict => (
            "conflict",
            "another task's, which is in the way and may be the request's own",
            "it looks up the tasks of the source and of the target server: one of its own ends it as `created`, another as `conflict`, none as `rejected`",
            "clear the task that the dead letter names, then `sluice dead-letters replay`",
        ),
        Class::Transient => (
            "transient",
            "the service's, for a while",
            "it looks once whether the task is there, and tries again with growing delays (`retry`); ten in a row of different requests open the breaker",
            "nothing; if it lasts, see SluiceBreakerShut in the runbook",
        ),
        Class::Throttled => (
            "throttled",
            "the quota's",
            "all calls wait as long as the answer says, and the rate is lowered and climbs back; it costs the request no attempt",
            "set `limits.rates` to the quota that the answer names, or share it with whoever else uses the account",
        ),
        Class::Unauthorized => (
            "unauthorized",
            "the credential's",
            "it gets one fresh token, once; if that is refused too the gate is halted, and all work is kept",
            "renew what `api.auth` names; new bytes of a token file are tried at once",
        ),
        Class::Account => (
            "account",
            "the account's",
            "the request is set aside and the next one goes; three different ones in a row halt the gate, which keeps all work and asks again now and then",
            "fix the account (permission, arrears, quota, endpoint), then `sluice gate resume`, or wait for the next probe",
        ),
        Class::OneResource => (
            "one_resource",
            "one server's, or the account's if several in a row are told so",
            "the request is set aside and the next one goes; what is refused while others are created ends as `rejected`",
            "give the account the right to that server or project, then `sluice dead-letters replay --cause CODE`",
        ),
        Class::Ambiguous => (
            "ambiguous",
            "nobody knows: it may have been applied",
            "it looks twice whether the task is there before it sends again, so nothing is created twice",
            "nothing; if it lasts, see SluiceBreakerShut in the runbook",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_table_is_explained_with_whose_it_is_and_what_to_do() {
        for row in codes::rows().filter(|row| row.code.contains('.') && !row.code.contains('*')) {
            let found = explain(row.code);
            let found = found.iter().find(|one| one.status == row.status).unwrap();
            assert_eq!(found.meaning, row.meaning);
            for text in [found.whose, found.worker, found.people] {
                assert!(text.len() > 5 && !text.ends_with('.'), "{text}");
            }
        }
    }

    #[test]
    fn a_code_is_found_as_people_write_it_and_so_is_a_bare_status() {
        let one = |asked: &str| explain(asked).into_iter().next().map(|one| (one.code, one.class));
        let agent = Some(("SMS.6603".to_owned(), "rejected"));
        for asked in ["SMS.6603", "sms.6603", " 6603 "] {
            assert_eq!(one(asked), agent, "{asked}");
        }
        assert_eq!(one("APIG.0308"), Some(("APIGW.0308".to_owned(), "throttled")));
        let status = explain("429");
        assert_eq!((status.len(), &*status[0].status, status[0].class), (1, "429", "throttled"));
        for asked in ["", "SMS.99999", "nonsense", "99", "SMS."] {
            assert_eq!(explain(asked), Vec::new(), "{asked}");
        }
        assert!(alike("SMS.6630", 3).contains(&"SMS.6603"));
    }
}
