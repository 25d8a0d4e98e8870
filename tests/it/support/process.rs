//! A worker as a process of its own: the real `sluice run`, to be killed, cut off and stopped.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sluicegate::broker::settings::Queues;
use sluicegate::message::status::{SessionStatus, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::rabbit::SOON;
use super::wait;

/// What a process is given.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// AMQP urls, tried in turn.
    pub(crate) urls: Vec<String>,
    pub(crate) queues: Queues,
    pub(crate) endpoint: String,
    pub(crate) rates: Vec<String>,
    pub(crate) look_again: Duration,
    /// The lines of `[api.auth]`.
    pub(crate) auth: String,
    pub(crate) level: String,
    pub(crate) operator_token: String,
    /// Further sections, as they stand in the file.
    pub(crate) more: String,
    /// Where its temporary files go, if not where they usually do.
    pub(crate) temporary: Option<PathBuf>,
    /// Further arguments of `sluice run`.
    pub(crate) arguments: Vec<String>,
    /// How many files it may have open, if not as many as the test.
    pub(crate) files: Option<u32>,
}

impl Spec {
    pub(crate) fn new(url: &str, queues: &Queues, endpoint: &str, rate: &str) -> Self {
        Self {
            urls: vec![url.to_owned()],
            queues: queues.clone(),
            endpoint: endpoint.to_owned(),
            rates: vec![rate.to_owned()],
            look_again: Duration::from_secs(2),
            auth: format!("token = {:?}", sluicegate::sandbox::TOKEN),
            level: "info,sluicegate=debug".to_owned(),
            operator_token: "an operator of the browser".to_owned(),
            more: String::new(),
            temporary: None,
            arguments: Vec::new(),
            files: None,
        }
    }

    pub(crate) fn toml(&self) -> String {
        let Self { urls, queues, endpoint, rates, look_again, auth, level, operator_token, .. } =
            self;
        let more = &self.more;
        let mut text =
            format!("[broker]\nurl = {urls:?}\n[queues]\nprefix = {:?}\n", queues.prefix);
        let _ = write!(
            text,
            "type = {:?}\nresults_retention = \"1D\"\naudit_retention = \"1D\"\n\
             [limits]\nrates = {rates:?}\n\
             [retry]\ninitial = \"100ms\"\nmax = \"1s\"\nattempts = 200\n[halt]\nprobe = \"1s\"\n\
             [api]\nendpoint = {endpoint:?}\ntimeout = \"1s\"\nconnect_timeout = \"500ms\"\nlook_again = \"{}ms\"\n\
             [api.auth]\n{auth}\n[http]\nlisten = \"127.0.0.1:0\"\noperator_token = {operator_token:?}\n[log]\nformat = \"json\"\nlevel = {level:?}\n{more}",
            queues.kind.as_str(),
            look_again.as_millis(),
        );
        text
    }
}

/// A running `sluice run`. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) log: PathBuf,
}

/// The program that was built, or the one that `SLUICE_CHAOS_BINARY` names, such as a release; without any variables.
pub(crate) fn sluice() -> Command {
    let built = || env!("CARGO_BIN_EXE_sluice").into();
    let mut command = Command::new(std::env::var_os("SLUICE_CHAOS_BINARY").unwrap_or_else(built));
    command.env_clear();
    command
}

/// The program, with so many files that it may open.
fn limited(files: Option<u32>) -> Command {
    let program = sluice();
    let Some(files) = files else { return program };
    let mut command = Command::new("/bin/sh");
    command.env_clear().arg("-c").arg(format!("ulimit -n {files}; exec \"$0\" \"$@\""));
    command.arg(program.get_program());
    command
}

impl Process {
    /// Its configuration and its log lie in `dir`, under `name`; a log that is there already is continued.
    pub(crate) fn start(spec: &Spec, dir: &Path, name: &str) -> Self {
        let log = dir.join(format!("{name}.log"));
        let told = File::options().create(true).append(true).open(&log).unwrap();
        Self::start_with(spec, dir, name, told.try_clone().unwrap().into(), told.into())
    }

    /// Stdout and stderr go elsewhere; what is known of its log has to be written there by the test.
    pub(crate) fn start_with(spec: &Spec, dir: &Path, name: &str, out: Stdio, err: Stdio) -> Self {
        let config = dir.join(format!("{name}.toml"));
        std::fs::write(&config, spec.toml()).unwrap();
        let child = limited(spec.files)
            .envs(spec.temporary.iter().map(|dir| ("TMPDIR", dir)))
            .args(["run", "-c"])
            .arg(&config)
            .args(&spec.arguments)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap();
        Self { child, log: dir.join(format!("{name}.log")) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// `kill -9`
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// SIGTERM, and its exit code; it has to be gone soon.
    pub(crate) async fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        wait::until(SOON, async || {
            let ended = self.child.try_wait().unwrap().map(|status| status.code());
            ended.ok_or_else(|| format!("it runs; see {}", self.log.display()))
        })
        .await
    }

    /// A figure of `/proc/PID/status` that is given in kB, such as `VmHWM`; in bytes.
    pub(crate) fn memory(&self, figure: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(figure)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// What it has logged so far.
    pub(crate) fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Where its HTTP port is; `None` until it has said so.
    pub(crate) fn address(&self) -> Option<String> {
        let log = self.logged();
        let line = log.lines().rev().find(|line| line.contains("\"listening\""))?;
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(line["fields"]["address"].as_str().or(line["address"].as_str())?.to_owned())
    }

    /// The body of an HTTP answer of its own port; `None` while it does not answer.
    pub(crate) async fn get(&self, path: &str) -> Option<(u16, String)> {
        let address = self.address()?;
        let ask = async {
            let mut stream = TcpStream::connect(&address).await.ok()?;
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            let (head, body) = answer.split_once("\r\n\r\n")?;
            let code = head.split(' ').nth(1)?.parse().ok()?;
            Some((code, body.to_owned()))
        };
        tokio::time::timeout(Duration::from_secs(2), ask).await.ok()?
    }

    pub(crate) async fn status(&self) -> Option<Status> {
        let (_, body) = self.get("/status").await?;
        serde_json::from_str::<Vec<Status>>(&body).ok()?.pop()
    }

    /// Waits until it says of itself what is wanted, for so long; how long it took.
    pub(crate) async fn until(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> Duration {
        let start = Instant::now();
        wait::until(patience, async || {
            let status = self.status().await;
            let is_so = status.as_ref().is_some_and(&wanted);
            is_so
                .then(|| start.elapsed())
                .ok_or_else(|| format!("not {what}: {status:?}; see {}", self.log.display()))
        })
        .await
    }

    pub(crate) async fn active(&self) -> Duration {
        self.until("active", SOON, is_active).await
    }

    pub(crate) async fn standby(&self) -> Duration {
        let standby = |status: &Status| matches!(status.session, SessionStatus::Standby { .. });
        self.until("a standby", SOON, standby).await
    }
}

pub(crate) fn is_active(status: &Status) -> bool {
    matches!(status.session, SessionStatus::Active { .. })
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
