//! The text of every type, read by us and by BIND: the octets have to be the same, and what one refuses the other refuses.

use crate::peers::Root;
use crate::support::name;
use data_encoding::HEXUPPER;
use dns::wire::Writer;
use std::fmt::Write as _;

/// Our octets for a record's type and data, in the form of `named-rrchecker -u`.
fn ours(record: &str) -> Result<String, String> {
    let text = format!("$TTL 1\n@ {record}\n");
    let contents = dns::master::read_alone(text.as_bytes(), &name(".")).map_err(|error| error.to_string())?;
    let record = &contents.records[0];
    let mut octets = Vec::new();
    record.rdata.write(&mut Writer::new(&mut octets, 65_535)).unwrap();
    let data = match octets.len() {
        0 => String::new(),
        _ => format!(" {}", HEXUPPER.encode(&octets)),
    };
    Ok(format!("TYPE{} \\# {}{data}", record.record_type.0, octets.len()))
}

fn theirs(root: &Root, record: &str) -> Result<String, String> {
    let output = root.run("named-rrchecker", &["-u"], &format!("IN {record}\n"));
    let text = String::from_utf8(output.stdout).unwrap();
    if output.status.success() {
        let mut words = text.split_whitespace().skip(1);
        let head: Vec<&str> = words.by_ref().take(3).collect();
        let data: String = words.collect();
        Ok(format!("{} {data}", head.join(" ")).trim_end().to_string())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// Every type that has a text form here, most of them more than once.
pub(crate) const GOOD: &str = r#"
A 192.0.2.1
AAAA 2001:db8::1
AAAA ::ffff:192.0.2.1
NS ns.example.
CNAME a\.b.example.
DNAME other.example.
PTR host.example.
MB host.example.
MG host.example.
MR host.example.
MINFO one.example. two.example.
SOA ns.example. host\.master.test. 2026010100 1h 15m 4w 30
SOA . . 4294967295 0 0 0 2147483647
MX 10 mail.example.
MX 0 .
TXT plain "with space" "" "\"quoted\\" \000\255
SPF "v=spf1 -all"
AVC "app-name:x"
NINFO "zone status"
HINFO "AMD64" Linux
RP mailbox.example. text.example.
AFSDB 1 host.example.
RT 10 host.example.
KX 10 host.example.
PX 10 one.example. two.example.
X25 311061700956
ISDN 150862028003217 004
GPOS -32.6882 116.8652 10.0
LOC 42 21 54 N 71 06 18 W -24m 30m
LOC 42 21 43.952 N 71 5 6.344 W -24m 1m 200m
LOC 52 14 05 N 00 08 50 E 10m
LOC 0 S 180 E 42849672.95m 0.01m 0m 90000000m
LOC 32 7 19 S 116 2 25 E -100000m
SRV 0 65535 443 host.example.
SRV 0 0 0 .
NAPTR 100 50 "s" "z3950+I2L+N2L" "" _z3950._tcp.example.
NAPTR 100 10 "u" "E2U+sip" "!^.*$!sip:info@example.com!" .
CERT PKIX 0 RSASHA256 MIIB MIIB
CERT 65534 12345 200 AQID
DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118
DS 60485 ECDSAP256SHA256 2 ( D4B7D520E7BB5F0F67674A0CCEB1E3E0 614B93C4F9E99B8383F6A1E4469DA50A )
CDS 0 0 0 00
DLV 1 8 1 2BB183AF5F22588179A53B0A98631FAD1A292118
TA 1 8 1 2BB183AF5F22588179A53B0A98631FAD1A292118
DNSKEY 256 3 8 AwEAAcAB AQI=
DNSKEY 257 3 ED25519 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=
CDNSKEY 0 3 0 AA==
KEY 512 3 8 AQIDBA==
RKEY 0 3 8 AQIDBA==
SSHFP 4 2 123456789ABCDEF67890123456789ABCDEF67890123456789ABCDEF123456789
IPSECKEY 10 0 2 . AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==
IPSECKEY 10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==
IPSECKEY 10 2 2 2001:db8::1 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==
IPSECKEY 10 3 2 gateway.example. AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==
RRSIG A 5 3 86400 20030322173103 20030220173103 2642 example. oJB1W6WNGv+ldvQ3WDG0MQkg5IEhjRip8WTr PYGv07h108dUKGMeDPKijVCHX3DDKdfb+v6o
RRSIG TYPE65280 8 0 0 1 4294967295 0 . AQID
RRSIG A 8 1 1 21060207062816 20000229000000 1 . AQID
NSEC host.example. A MX RRSIG NSEC TYPE1234
NSEC . NS SOA CAA
NSEC3 1 1 12 AABBCCDD 2VPTU5TIMAMQTTGL4LUU9KG21E0AOR3S A RRSIG
NSEC3 1 0 0 - 2vptu5timamqttgl4luu9kg21e0aor3s
NSEC3PARAM 1 0 12 aabbccdd
NSEC3PARAM 1 0 0 -
DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=
TLSA 3 1 1 D2ABDE240D7CD3EE6B4B28C54DF034B9 7983A1D16E8A410E4561CB106618E971
SMIMEA 3 0 0 AABB
HIP 2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMzxTs9LBPCIkOFH8cIvM4p rvs1.example. rvs2.example.
OPENPGPKEY mQINBFit2jsB EADrbl5vjVxYeAE0g0IDYCBpHirv1Sjlqxx5gjtPhb2YhvyDMXjq
CSYNC 66 3 A NS AAAA
ZONEMD 2018031900 1 1 C68090D90A7AED716BC459F9340E3D7C1370D4D24B7E2FC3A1DDC0B9A87153B9A9713B3C9AE5CC27777F98B8E730044C
SVCB 0 foo.example.
SVCB 16 foo.example. port=53
SVCB 1 foo.example. key667=hello
SVCB 1 foo.example. key667="hello\210qoo"
SVCB 1 foo.example. ipv6hint="2001:db8::1,2001:db8::53:1"
SVCB 16 foo.example. alpn=h2,h3-19 mandatory=ipv4hint,alpn ipv4hint=192.0.2.1
SVCB 16 foo.example. alpn="f\\\\oo\\,bar,h2"
SVCB 16 foo.example. alpn=f\\\092oo\092,bar,h2
SVCB 1 . alpn=dot dohpath=/dns-query{?dns}
HTTPS 1 . alpn="h2,h3" no-default-alpn port="443"
HTTPS 1 . ech=AEX+DQBBpQAgACBA alpn=h2
HTTPS 0 pool.example.
HTTPS 3 svc.example. key65000 key65001= key65002="a b"
NID 10 0014:4fff:ff20:ee64
L32 10 10.1.2.0
L64 10 2001:0DB8:1140:1000
LP 10 l64.example.
EUI48 00-00-5e-00-53-2a
EUI64 00-00-5e-ef-10-00-00-2a
URI 10 1 "ftp://ftp1.example.com/public"
CAA 0 issue "ca.example.net; policy=ev"
CAA 128 tbs ""
APL 1:192.168.32.0/21 !1:192.168.38.0/28
APL 1:224.0.0.0/4 2:FF00:0:0:0:0:0:0:0/8
TALINK a.example. b.example.
TYPE65280 \# 0
TYPE65280 \# 4 c0 00 02 01
TYPE1 \# 4 C0000201
TXT \# 3 026162
"#;

/// What neither reads.
const BAD: &str = r#"
A 192.0.2
A 192.0.2.1 x
A \# 3 c00002
AAAA 2001:db8::1::2
MX ten mail.example.
MX 65536 mail.example.
CNAME a..b.
TXT
TXT "unclosed
TXT \256
HINFO one
LOC 91 N 0 E 0m
LOC 42 21 60 N 71 06 18 W 0m
LOC 42 21 N 71 W
LOC 42 21 54 N 71 06 18 W 92233720368547758.07m
LOC 42 21 54 N 71 06 18 W 99999999999999999999999m
DS 60485 5 1
DS 60485 5 1 2BB18
DNSKEY 256 3 8 A*AA
RRSIG A 5 3 86400 20031322173103 20030220173103 2642 example. AQID
NSEC host.example. NOPE
NSEC3 1 1 12 AABBC 2VPTU5TIMAMQTTGL4LUU9KG21E0AOR3S A
SVCB 16 foo.example. mandatory=ipv4hint
SVCB 16 foo.example. alpn
SVCB 16 foo.example. port=65536
SVCB 16 foo.example. no-default-alpn=x alpn=h2
SVCB 16 foo.example. no-default-alpn
SVCB 16 foo.example. key123=a key123=b
SVCB 16 foo.example. mandatory=mandatory
SVCB 16 foo.example. mandatory=key123,key123 key123=a
SVCB 16 foo.example. ipv4hint=2001:db8::1
SVCB 1 . dohpath=/no-variable
EUI48 00-00-5e-00-53
NID 10 0014:4fff:ff20
CAA 0 is-sue x
CAA 256 issue x
URI 10 1
APL 3:1.2.3.4/2
APL 1:1.2.3.4/33
NAPTR 1 2 "s" "x" "" 
TYPE65280 \# 3 abcd
TYPE65280 \# 1 abcd
TYPE65280 abcd
SRV 1 2 3
SSHFP 4 2 xyz
CERT NOPE 0 0 AQID
"#;

pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty())
}

#[test]
fn every_type_reads_as_in_bind() {
    let Some(root) = Root::find("every_type_reads_as_in_bind") else { return };
    let mut differences = String::new();
    for record in lines(GOOD) {
        let (ours, theirs) = (ours(record), theirs(&root, record));
        if ours.is_err() || ours != theirs {
            writeln!(differences, "{record}\n  ours   {ours:?}\n  theirs {theirs:?}").unwrap();
        }
    }
    for record in lines(BAD) {
        let (ours, theirs) = (ours(record), theirs(&root, record));
        if ours.is_ok() || theirs.is_ok() {
            writeln!(differences, "{record}\n  ours   {ours:?}\n  theirs {theirs:?}").unwrap();
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// Every directive of master files.
const DIRECTIVES: &str = r#"
$ORIGIN example.
$TTL 1h
@ IN SOA ns hostmaster ( 1 ; serial
    1d 2h 4w
    5m )
    NS ns
ns 1m A 192.0.2.53
$GENERATE 1-3 host$ A 192.0.2.$
$GENERATE 0-20/5 ${1,3}-x${0,2,x} 60 CNAME host${-0,1,d}
$GENERATE 1-2 a\$b$ TXT "${250,8,o}-$$-${0,4,X}"
$GENERATE 16-18 ${0,7,n}.rev PTR host$
$GENERATE 250-251 ${0,1,N}.up IN 3 PTR host$
$INCLUDE sub.inc sub
after TXT "back in example."
 TXT "the same owner"
$ORIGIN deeper
$INCLUDE sub.inc
x TXT y
$TTL 5
z TYPE65280 \# 0
"#;

const INCLUDED: &str = "@ 7 TXT in\n$ORIGIN inner\na MX 5 @\n$TTL 9\nb CNAME a\n";

/// The records of a file with their TTLs, in an order of their own.
fn records(path: &std::path::Path, folder: &std::path::Path) -> Vec<String> {
    let mut include = |name: &std::path::Path| {
        let text = std::fs::read(folder.join(name)).map_err(|error| error.to_string())?;
        Ok((name.to_owned(), text))
    };
    let text = std::fs::read(path).unwrap();
    let contents = dns::master::read(&text, &name("example."), &mut include)
        .unwrap_or_else(|error| panic!("{error} in {}", text.escape_ascii()));
    let show = |record: dns::zone::Record| {
        let mut octets = Vec::new();
        record.rdata.write(&mut Writer::new(&mut octets, 65_535)).unwrap();
        let data = HEXUPPER.encode(&octets);
        format!("{} {} {} {data}", record.owner, record.ttl, record.record_type)
    };
    let mut all: Vec<String> = contents.records.into_iter().map(show).collect();
    all.sort();
    all
}

#[test]
fn every_directive_reads_as_in_bind() {
    let Some(root) = Root::find("every_directive_reads_as_in_bind") else { return };
    let (folder, inside) = root.folder();
    std::fs::write(folder.path().join("main"), DIRECTIVES).unwrap();
    std::fs::write(folder.path().join("sub.inc"), INCLUDED).unwrap();
    let inside = inside.to_str().unwrap();
    let arguments = ["-i", "none", "-k", "ignore", "-w", inside, "-o", "out", "example.", "main"];
    let output = root.run("named-compilezone", &arguments, "");
    assert!(output.status.success(), "{output:?}");
    let ours = records(&folder.path().join("main"), folder.path());
    let theirs = records(&folder.path().join("out"), folder.path());
    assert!(ours.len() > 25, "{ours:#?}");
    let only = |one: &[String], other: &[String]| {
        one.iter().filter(|record| !other.contains(record)).cloned().collect::<Vec<_>>()
    };
    assert_eq!(
        (only(&ours, &theirs), only(&theirs, &ours)),
        (Vec::new(), Vec::new()),
        "only ours, only theirs"
    );
    assert_eq!(ours.len(), theirs.len());
}
