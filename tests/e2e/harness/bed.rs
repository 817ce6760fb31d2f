//! The control plane of `hack/testbed`, as its `env` command describes it.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

use std::io::Write as _;

/// Where the parts of the test bed are.
#[derive(Debug)]
pub struct Bed {
    pub kubeconfig: String,
    pub prometheus_url: String,
    /// Authority of the serving certificates.
    pub authority: String,
    pub certificate: String,
    pub key: String,
    /// The certificate by which kube-apiserver's front proxy is known, and its key.
    pub front_proxy: [String; 2],
    /// The adapter library's own adapter.
    pub test_adapter: String,
    /// Where KEDA is, if `hack/testbed keda` has built it.
    pub keda: Option<PathBuf>,
    kubectl: String,
    metrics_client: String,
    script: String,
    state: String,
}

impl Bed {
    /// The bed of this run; the first call also chooses the TLS provider of this process.
    pub fn get() -> &'static Self {
        static BED: OnceLock<Bed> = OnceLock::new();
        BED.get_or_init(|| {
            let bed = Self::from_environment();
            // An error means that one is chosen already, which is as good.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            bed
        })
    }

    fn from_environment() -> Self {
        let variable = |name: &str| {
            env::var(name).unwrap_or_else(|_| {
                panic!("{name} is not set: these tests need the control plane of hack/testbed; run hack/test e2e")
            })
        };
        Self {
            script: variable("TESTBED"),
            kubectl: variable("KUBECTL"),
            test_adapter: variable("TESTBED_TEST_ADAPTER"),
            keda: env::var_os("TESTBED_KEDA").map(PathBuf::from),
            metrics_client: variable("TESTBED_METRICS_CLIENT"),
            state: variable("TESTBED_STATE"),
            kubeconfig: variable("KUBECONFIG"),
            prometheus_url: variable("PROMETHEUS_URL"),
            authority: variable("TESTBED_CA"),
            certificate: variable("TESTBED_TLS_CERT"),
            key: variable("TESTBED_TLS_KEY"),
            front_proxy: ["TESTBED_FRONT_PROXY_CERT", "TESTBED_FRONT_PROXY_KEY"].map(variable),
        }
    }

    /// Runs `hack/testbed` with these arguments.
    pub fn testbed(&self, arguments: &[&str]) -> String {
        run(Command::new(&self.script).args(arguments), None).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Flags of an adapter that is built on the library: where it listens, with the bed's certificate, and whom it asks.
    pub fn adapter_flags(&self, port: u16) -> Vec<String> {
        let Self { certificate, key, kubeconfig, .. } = self;
        vec![
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--tls-cert-file={certificate}"),
            format!("--tls-private-key-file={key}"),
            format!("--lister-kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
        ]
    }

    /// What the clients of client-go got.
    pub fn metrics_client(&self, arguments: &[&str]) -> String {
        run(Command::new(&self.metrics_client).args(arguments), None).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The log of a component.
    pub fn log(&self, component: &str) -> PathBuf {
        PathBuf::from(&self.state).join("logs").join(format!("{component}.log"))
    }

    /// What `kubectl` prints; with an administrator's rights, in the root of the repository.
    ///
    /// # Errors
    /// What it complains about.
    pub fn try_kubectl(&self, arguments: &[&str], input: Option<&str>) -> Result<String, String> {
        run(Command::new(&self.kubectl).args(arguments).current_dir(root()), input)
    }

    /// What `kubectl` prints.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments, None).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The root of the repository.
fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn run(command: &mut Command, input: Option<&str>) -> Result<String, String> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let spawned = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{command:?} failed, {}:\n{}{}", output.status, text(&output.stdout), text(&output.stderr)))
    }
}
