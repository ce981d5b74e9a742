#!/usr/bin/env bash
# Deploys to Cloudflare what [env.production] of wrangler.toml says; run it as
# `make deploy`. Every step first looks whether it is done already, so it may be
# repeated, and later deployments are the same.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly database=latchkey # database_name in wrangler.toml
readonly none=00000000-0000-0000-0000-000000000000

fail() {
	echo "deploy: $*" >&2
	exit 1
}

if [ -z "${CLOUDFLARE_API_TOKEN:-}" ] && ! wrangler whoami --json >/dev/null 2>&1; then
	fail 'not logged in at Cloudflare: run `npx wrangler login`, or set CLOUDFLARE_API_TOKEN'
fi

# The D1 database: the account's own of that name, created where there is none.
database_id() {
	wrangler d1 list --json | node -e '
		const all = JSON.parse(require("fs").readFileSync(0, "utf8"));
		console.log(all.find(({ name }) => name === process.argv[1])?.uuid ?? "");' "$database"
}
readonly section='/^\[\[env\.production\.d1_databases]]/,/^database_id/' # sed's address of its lines
if sed -n "$section p" wrangler.toml | grep -q "$none"; then
	# Earlier versions wrote it at the top level, and deployed what stands there. It
	# moves: with it a bare `wrangler deploy` would put the defaults into production.
	earlier=$(sed -n "/^\[\[*env\./q; /$none/d; s/^database_id = \"\([^\"]*\)\".*/\1/p" wrangler.toml)
	id=${earlier:-$(database_id)}
	if [ -z "$id" ]; then
		wrangler d1 create "$database" </dev/null
		id=$(database_id)
	fi
	[ -n "$id" ] || fail "there is no D1 database named $database, though it was created just now: try again"
	sed -i.old -e "s/${earlier:-$none}/$none/" -e "$section s/$none/$id/" wrangler.toml
	rm wrangler.toml.old
	echo "wrangler.toml names the D1 database $id now: commit that."
	[ -z "$earlier" ] || fail 'nothing is deployed yet. From now on the settings are those of [env.production.vars]:
copy there what you have changed in [vars], see what else it sets, and run `make deploy` again'
fi
wrangler d1 migrations apply DB --remote --env production

# The secrets that are missing. A failed listing must not look like an empty
# one: a new KEY_ENCRYPTION_KEY makes every stored key unreadable.
if ! have=$(wrangler secret list --env production 2>&1); then
	[[ $have == *'not found'* ]] || fail "listing the secrets: $have"
	have='' # the first deployment: there is no Worker yet
fi
put() {
	local name=$1 what=$2 makeable=$3 value=''
	if [[ $have == *"\"$name\""* ]]; then return; fi
	[ -t 0 ] || fail "the secret $name is missing, and there is no terminal to ask at: set it with \`npx wrangler secret put $name --env production\`"
	read -rsp "$name, $what: " value
	echo
	if [ -z "$value" ] && [ "$makeable" = yes ]; then
		value=$(node -p 'crypto.randomBytes(32).toString("base64")')
		echo "Made up: $value"
		echo 'Keep it in a safe place. It is shown this once, and cannot be read back.'
	fi
	[ -n "$value" ] || fail "$name is required"
	printf %s "$value" | wrangler secret put "$name" --env production
}
[[ $have == *'"OPENROUTER_MANAGEMENT_KEY"'* ]] || put OPENROUTER_PROVISIONING_API_KEY 'which OpenRouter gave you' no
put JWT_SECRET_CLOUD 'with which your tokens are signed, 32 bytes or more (empty: make one up)' yes
put KEY_ENCRYPTION_KEY '32 bytes in base64 (empty: make one up)' yes

wrangler deploy --env production
