//! Templates and what text/template of Go, with slim-sprig, makes of them.

use serde_json::json;

use super::*;

fn rendered(template: &str) -> Result<String, String> {
    let inputs = json!({
        "tenant": "team-a", "replicas": 2, "many": 1_000_000, "on": true, "off": false, "open": "${VAR}",
        "nothing": null, "empty": "", "apps": [{"name": "one", "envs": ["dev", "prod"]}, {"name": "two"}],
        "labels": {"b": "2", "a": 1}, "layer": {"mediaType": "x", "list": [{"k": "v"}, 1]},
    });
    render(template, &inputs).map(|rendered| rendered.text)
}

#[test]
fn templates_give_what_go_gives() {
    for (template, expected) in [
        ("plain", "plain"),
        ("a << inputs.tenant >> b", "a team-a b"),
        ("<<inputs.tenant>>", "team-a"),
        ("a  <<- inputs.tenant ->>  b", "ateam-ab"),
        ("a<< /* not this */ >>b", "ab"),
        ("<< inputs.replicas >> << inputs.many >> << inputs.on >>", "2 1e+06 true"),
        ("<< inputs.many | int >>", "1000000"),
        ("<< inputs.tenant | quote >>", "\"team-a\""),
        ("<< inputs.tenant | upper | squote >>", "'TEAM-A'"),
        ("<< if inputs.on >>yes<< else >>no<< end >>", "yes"),
        ("<< if inputs.off >>yes<< else if eq inputs.tenant \"team-a\" >>mine<< else >>no<< end >>", "mine"),
        ("<< if not inputs.empty >>yes<< end >>", "yes"),
        ("<< if and inputs.on (ne inputs.tenant \"x\") >>yes<< end >>", "yes"),
        ("<<- range $app := inputs.apps >>\n- << $app.name >>\n<<- end >>\n", "\n- one\n- two\n"),
        ("<< range $i, $app := inputs.apps >><< $i >><< .name >> << end >>", "0one 1two "),
        ("<< range $key, $value := inputs.labels >><< $key >>=<< $value >>;<< end >>", "a=1;b=2;"),
        ("<< range inputs.empties >>x<< end >>", "!"),
        ("<< get inputs \"none\" | default \"fallback\" >>", "fallback"),
        ("<< get inputs \"tenant\" | default \"fallback\" >>", "team-a"),
        ("<< $x := inputs.tenant >><< $x >>", "team-a"),
        ("<< $x := 1 >><< if inputs.on >><< $x = 2 >><< end >><< $x >>", "2"),
        ("<< with inputs.layer >><< .mediaType >><< end >>", "x"),
        ("<< with $l := inputs.layer >><< $l.mediaType >><< else >>none<< end >>", "x"),
        ("<< printf \"%s-%d%%\" inputs.tenant 3 >>", "team-a-3%"),
        ("<< (index inputs.apps 1).name >>", "two"),
        ("<< len inputs.apps >><< len inputs.tenant >>", "26"),
        ("<< hasKey inputs \"tenant\" >>", "true"),
        ("<< inputs.tenant | replace \"-\" \"_\" | trimPrefix \"team\" >>", "_a"),
        ("<< ternary \"a\" \"b\" inputs.on >>", "a"),
        ("<< \"a>>b\" >>", "a>>b"),
        ("<< `raw` | toString >>", "raw"),
        ("<< join \",\" (list \"a\" \"b\") >>", "a,b"),
        ("<< \"My App!\" | slugify >>", "my-app"),
        ("<< inputs.open >>", "${VAR}"),
        ("<< inputs.open | quote >>", "\"${VAR}\""),
    ] {
        let expected =
            if expected == "!" { Err("there is no empties".to_owned()) } else { Ok(expected.to_owned()) };
        assert_eq!(rendered(template), expected, "{template}");
    }
    let yaml = rendered("v: << inputs.layer | toYaml | nindent 4 >>").unwrap();
    let node =
        gatehouse_inventory::yaml::load(&yaml, gatehouse_inventory::yaml::At::default()).unwrap().unwrap();
    assert_eq!(node.to_value(), json!({"v": {"mediaType": "x", "list": [{"k": "v"}, 1]}}));
}

#[test]
fn what_is_not_known_or_not_supported_is_an_error() {
    for template in [
        "<< inputs.absent >>",
        "<< inputs.tenant.deeper >>",
        "<< if inputs.open >>a<< end >>",
        "<< if eq inputs.open \"x\" >>a<< end >>",
        "<< if eq inputs.replicas 2 >>a<< end >>",
        "<< inputs.open | default \"x\" >>",
        "<< inputs.open | lower >>",
        "<< inputs.open | int >>",
        "<< if inputs.on >>a",
        "<< end >>",
        "<< inputs.tenant",
        "<< sha256sum inputs.tenant >>",
        "<< inputs.labels >>",
        "<< $x >>",
        "<< define \"x\" >><< end >>",
        "<< printf \"%q\" inputs.tenant >>",
        "<< printf \"%d\" inputs.replicas >>",
        "<< >>",
        "<< inputs.tenant | >>",
        "<< (inputs.tenant >>",
        "<< inputs.tenant \"x\" >>",
        "<< range 3 >>a<< end >>",
    ] {
        assert!(rendered(template).is_err(), "{template}");
    }
}

#[test]
fn lines_lead_to_the_template() {
    let template = "a:\n<<- range $app := inputs.apps >>\n- x\n- << $app.name >>\n<<- end >>\nb: << inputs.tenant >>\nc\n";
    let inputs = json!({"tenant": "two\nlines", "apps": [{"name": "one"}, {"name": "two"}]});
    let rendered = render(template, &inputs).unwrap();
    let lines: Vec<_> =
        rendered.text.lines().zip(&rendered.lines).map(|(text, line)| (text, *line)).collect();
    assert_eq!(
        lines,
        [
            ("a:", 0),
            ("- x", 2),
            ("- one", 3),
            ("- x", 2),
            ("- two", 3),
            ("b: two", 5),
            ("lines", 5),
            ("c", 6)
        ]
    );
}
