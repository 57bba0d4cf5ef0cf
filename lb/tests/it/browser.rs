//! A real Chromium without a window, driven over its devtools protocol on a pair of pipes (fds 3 and 4, messages end in
//! NUL), so that no port and no websocket is needed.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::PATIENCE;

/// One page of one browser; ends with it.
pub(crate) struct Page {
    browser: Child,
    commands: File,
    messages: std::sync::mpsc::Receiver<Value>,
    session: String,
    next: u64,
    /// What the page logged as an error, and every load it was refused.
    pub(crate) errors: Vec<String>,
    _folder: TempDir,
}

impl Page {
    /// `None` if there is no Chromium on this host.
    pub(crate) fn open() -> Option<Self> {
        let known = |name: &&str| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok();
        let chromium = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(known)?;
        let folder = tempfile::tempdir().unwrap();
        let (to, from) = (folder.path().join("to"), folder.path().join("from"));
        for pipe in [&to, &from] {
            nix::unistd::mkfifo(pipe, Mode::S_IRWXU).unwrap();
        }
        let profile = folder.path().join("profile");
        let script = format!(
            "exec {chromium} --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --hide-scrollbars \
             --remote-debugging-pipe --user-data-dir={} about:blank 3<\"$1\" 4>\"$2\"",
            profile.display()
        );
        let browser = Command::new("sh")
            .args(["-c", &script, "sh"])
            .args([&to, &from])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let commands = File::options().write(true).open(&to).unwrap();
        let answers = BufReader::new(File::open(&from).unwrap());
        let (sender, messages) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for message in answers.split(0).map_while(Result::ok) {
                if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
            }
        });
        let session = String::new();
        let mut page =
            Self { browser, commands, messages, session, next: 0, errors: Vec::new(), _folder: folder };
        let target = page.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        page.session = page.call("Target.attachToTarget", &target)["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), &json!({}));
        }
        Some(page)
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({ "id": id, "method": method, "params": *params });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let got = self.messages.recv_timeout(PATIENCE).expect("the browser answers");
            self.note(&got);
            if got["id"] == id {
                assert!(got["error"].is_null(), "{method}: {got}");
                return got["result"].clone();
            }
        }
    }

    fn note(&mut self, message: &Value) {
        let params = &message["params"];
        let error = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => Some(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => Some(params["args"].to_string()),
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                Some(params["entry"].to_string())
            }
            Some("Network.loadingFailed") => Some(params.to_string()),
            _ => None,
        };
        self.errors.extend(error);
    }

    pub(crate) fn go(&mut self, address: &str) {
        self.call("Page.navigate", &json!({ "url": address }));
    }

    /// The window's size in CSS pixels, and the colours that the person prefers.
    pub(crate) fn look(&mut self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call("Emulation.setEmulatedMedia", &json!({ "features": [feature] }));
    }

    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let result = self.call("Runtime.evaluate", &asked);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&mut self, what: &str, expression: &str) {
        let started = Instant::now();
        while self.evaluate(expression) != true {
            let text = self.evaluate("document.body.innerText");
            assert!(
                started.elapsed() < PATIENCE,
                "never: {what}\n{}\n{:?}",
                text.as_str().unwrap_or(""),
                self.errors
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn screenshot(&mut self) -> Vec<u8> {
        let taken = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().unwrap()).unwrap()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}
