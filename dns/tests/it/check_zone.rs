//! `dns --check-zone`, and what it and BIND's own checker say of the zones that we ship.

use crate::peers::Root;
use std::path::Path;
use std::process::Command;

/// Code and output for a folder of files; the folder's own name is taken out.
#[track_caller]
fn check(files: &[(&str, &str)], arguments: &[&str], expected_code: i32, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_dns"))
        .arg("--check-zone")
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.as_str()), (Some(expected_code), expected));
}

const APEX: &str = "$TTL 9\n@ SOA ns h 5 1 1 1 1\n@ NS ns\nns A 192.0.2.1\n";

#[test]
fn a_good_zone() {
    check(&[("z.zone", APEX)], &["z.zone"], 0, "z.: good, serial 5, 3 records\n");
    check(&[("db.z", APEX)], &["db.z", "other.example"], 0, "other.example.: good, serial 5, 3 records\n");
}

#[test]
fn places_of_what_is_wrong() {
    check(
        &[("z.zone", "$TTL 9\n@ A 1.2.3")],
        &["z.zone"],
        1,
        "error: z.zone:2:5: expected an IPv4 address, found '1.2.3'\n",
    );
    check(&[("z.zone", "")], &["z.zone"], 1, "error: z.zone: no SOA record at the apex, z.\n");
    check(&[], &["z.zone"], 1, "error: z.zone: cannot be read: No such file or directory (os error 2)\n");
    check(&[("z.zone", APEX)], &["z.zone", "a..b"], 1, "z.zone: a..b is no origin: a label is empty\n");
}

#[test]
fn places_in_included_files() {
    let main = format!("{APEX}$INCLUDE more\n");
    check(
        &[("z.zone", &main), ("more", "\na A 192.0.2.1\na 8 A 192.0.2.2")],
        &["z.zone"],
        0,
        "warning: more:3: a.z. A: TTL 8 differs from 9 earlier in the set; serving 8\nz.: good, serial 5, 5 records\n",
    );
    check(
        &[("z.zone", &main), ("more", "\n\nns CNAME x")],
        &["z.zone"],
        1,
        "error: more:3: CNAME at ns.z., which has A already: a CNAME stands alone\n",
    );
    check(
        &[("z.zone", &main), ("more", "a AA")],
        &["z.zone"],
        1,
        "error: more:1:3: expected a TTL, the class IN or a record type, found 'AA'\n",
    );
}

#[test]
fn the_shipped_zones_are_good_for_us_and_for_bind() {
    let Some(root) = Root::find("the_shipped_zones_are_good_for_us_and_for_bind") else { return };
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config/zones");
    let (folder, inside) = root.folder();
    let mut seen = 0;
    for entry in std::fs::read_dir(shipped).unwrap() {
        let path = entry.unwrap().path();
        let origin = path.file_stem().unwrap().to_str().unwrap().to_string();
        let ours = Command::new(env!("CARGO_BIN_EXE_dns")).arg("--check-zone").arg(&path).output().unwrap();
        assert!(ours.status.success(), "{ours:?}");
        std::fs::copy(&path, folder.path().join("zone")).unwrap();
        let inside = inside.join("zone");
        let theirs = root.run("named-checkzone", &["-i", "local", &origin, inside.to_str().unwrap()], "");
        assert!(theirs.status.success(), "{theirs:?}");
        seen += 1;
    }
    assert!(seen > 0, "no zone is shipped");
}
