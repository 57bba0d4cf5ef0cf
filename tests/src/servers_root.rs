//! Programs that we did not write, out of the cached trixie root. Each runs in a mount, pid and IPC namespace of its own, so
//! that its mounts, its children and its shared memory end with it, whatever ends it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::layout;

/// Runs inside the new namespaces. Only the exec at the end stays, as the namespace's first process: a kill of it ends all
/// others. setpriv asks for the parent's death signal last, because changing the user forgets it.
const CONTAIN: &str = r#"set -eu
root=$1 user=$2 folder=$3 mounts=$4
shift 4
mount --rbind /dev "$root/dev"
mount -t tmpfs -o size=16m,mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o size=16m,mode=1777 tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --bind "$folder" "$root/srv/stack"
while [ "$mounts" -gt 0 ]; do
    mount --bind "$1" "$root/srv/stack/$2"
    shift 2
    mounts=$((mounts - 1))
done
exec chroot "$root" setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --pdeathsig KILL "$@"
"#;

/// The root, and who is who in it.
#[derive(Debug)]
pub struct ServersRoot {
    path: PathBuf,
}

impl ServersRoot {
    /// Finds it; makes it when this machine has none.
    pub fn find() -> Result<Self> {
        Ok(Self { path: layout::servers_root()? })
    }

    /// Its folder on this machine.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the root has this program, by its path inside.
    pub fn has(&self, program: &str) -> bool {
        self.path.join(program.trim_start_matches('/')).is_file()
    }

    /// The command line that runs `command` as `user`. It sees `folder` as `/srv/stack`, and there each of `mounts`: a
    /// folder of the host, and an empty one below `folder` in whose place it is seen.
    pub fn contained(
        &self,
        user: &str,
        folder: &Path,
        mounts: &[(&Path, &str)],
        command: &[&str],
    ) -> Vec<String> {
        let unshare =
            ["--mount", "--ipc", "--pid", "--fork", "--kill-child=KILL", "--propagation", "private"];
        let path = |path: &Path| path.display().to_string();
        let mut argv = vec!["unshare".to_owned()];
        argv.extend(unshare.map(String::from));
        argv.extend(["sh", "-c", CONTAIN, "sh"].map(String::from));
        argv.extend([path(&self.path), user.to_owned(), path(folder), mounts.len().to_string()]);
        argv.extend(mounts.iter().flat_map(|(from, to)| [path(from), (*to).to_owned()]));
        argv.extend(command.iter().map(ToString::to_string));
        argv
    }

    /// Numbers of a user and its group in the root, which are not the host's.
    pub fn user(&self, name: &str) -> Result<(u32, u32)> {
        let file = self.path.join("etc/passwd");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        text.lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                Some((*fields.first()?, fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
            })
            .find_map(|(user, uid, gid)| (user == name).then_some((uid, gid)))
            .with_context(|| format!("no user {name} in {}", file.display()))
    }
}
