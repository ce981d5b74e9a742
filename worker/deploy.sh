#!/usr/bin/env bash
# Deploys to Cloudflare what a section [env.…] of wrangler.toml says, by default that of
# production; run it as `make deploy` or `make deploy ENV=staging`. Every step first looks
# whether it is done already, so it may be repeated, and later deployments are the same.
# shellcheck disable=SC2016 # backticks in messages are for people
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly environment=${1:-production}
readonly none=00000000-0000-0000-0000-000000000000

fail() {
	echo "deploy: $*" >&2
	exit 1
}

grep -q "^\[env\.$environment\.vars]" wrangler.toml || fail "wrangler.toml has no section [env.$environment.vars]"

# Nothing is changed before this: offline, or without a login, nothing is half done.
if ! who=$(wrangler whoami --json 2>&1); then
	case $who in
	*'"loggedIn":false'*) fail 'not logged in at Cloudflare: run `npx wrangler login`, or set CLOUDFLARE_API_TOKEN' ;;
	*'Unable to resolve'* | *'fetch failed'* | *ENOTFOUND* | *ECONNREFUSED* | *ETIMEDOUT*)
		fail "Cloudflare cannot be reached, and nothing was changed: look at your connection. wrangler says: $who"
		;;
	esac
	# A token may be good for all that follows, and not for this.
	[ -n "${CLOUDFLARE_API_TOKEN:-}" ] || fail "asking Cloudflare who you are: $who"
fi

# The D1 database: the account's own of that name, created where there is none.
readonly section="/^\[\[env\.$environment\.d1_databases]]/,/^database_id/" # sed's address of its lines
database=$(sed -n "$section s/^database_name = \"\([^\"]*\)\".*/\1/p" wrangler.toml)
readonly database
database_id() {
	local all
	all=$(wrangler d1 list --json) || fail 'listing the D1 databases failed'
	node -e '
		const all = JSON.parse(require("fs").readFileSync(0, "utf8"));
		console.log(all.find(({ name }) => name === process.argv[1])?.uuid ?? "");' "$database" <<<"$all"
}
if sed -n "$section p" wrangler.toml | grep -q "$none"; then
	# Earlier versions wrote it at the top level, and deployed what stands there. It
	# moves: with it a bare `wrangler deploy` would put the defaults into production.
	earlier=''
	if [ "$environment" = production ]; then
		earlier=$(sed -n "/^\[\[*env\./q; /$none/d; s/^database_id = \"\([^\"]*\)\".*/\1/p" wrangler.toml)
	fi
	id=${earlier:-$(database_id)}
	if [ -z "$id" ]; then
		wrangler d1 create "$database" </dev/null
		id=$(database_id)
	fi
	[ -n "$id" ] || fail "there is no D1 database named $database, though it was created just now: try again"
	[ -z "$earlier" ] || sed -i.old "s/$earlier/$none/" wrangler.toml
	sed -i.old "$section s/$none/$id/" wrangler.toml
	rm wrangler.toml.old
	echo "wrangler.toml names the D1 database $id now: commit that."
	[ -z "$earlier" ] || fail 'nothing is deployed yet. From now on the settings are those of [env.production.vars]:
copy there what you have changed in [vars], see what else it sets, and run `make deploy` again'
fi
wrangler d1 migrations apply DB --remote --env "$environment"

# The secrets that are missing. A failed listing must not look like an empty
# one: a new KEY_ENCRYPTION_KEY makes every stored key unreadable.
if ! have=$(wrangler secret list --env "$environment" 2>&1); then
	[[ $have == *'not found'* ]] || fail "listing the secrets: $have"
	have='' # the first deployment: there is no Worker yet
fi
has() { [[ $have == *"\"$1\""* ]]; }

# refusal says why the Worker would not take a secret; internal/settings decides.
refusal() {
	local name=$1 value=$2
	case $value in *not-a-real* | *stand-in-* | *…*)
		echo 'it is an example, which everybody knows'
		return
		;;
	esac
	case $name in
	KEY_ENCRYPTION_KEY)
		[[ $value =~ ^[A-Za-z0-9+/]{43}=$ ]] || echo 'it has to be 32 bytes in base64, as `openssl rand -base64 32` prints'
		;;
	JWT_SECRET_CLOUD | ADMIN_TOKEN)
		if [ "$(printf %s "$value" | wc -c)" -lt 32 ]; then echo 'it has to have 32 bytes or more'; fi
		if [[ $value == *'-----BEGIN '* ]]; then echo 'it is a PEM key: a public one belongs into JWT_PUBLIC_KEY'; fi
		;;
	*)
		if [[ -z $value || $value =~ [[:space:]] ]]; then echo 'it has to be a key, without white space'; fi
		;;
	esac
}

# put asks for a secret until it is one, and sends it. needed is "yes", or "no" where the
# Worker can do without; made is "yes" where one is made up if nothing is typed.
put() {
	local name=$1 what=$2 needed=$3 made=$4 value why
	if has "$name"; then return; fi
	if ! [ -t 0 ]; then
		why="the secret $name is missing, and there is no terminal to ask at: set it with \`npx wrangler secret put $name --env $environment\`"
		if [ "$needed" = yes ]; then fail "$why"; fi
		echo "deploy: $why" >&2
		return
	fi
	while true; do
		read -rsp "$name, $what: " value || fail "$name was not given"
		echo
		if [ "$value" = no ] && [ "$needed" = no ]; then return; fi
		if [ -z "$value" ] && [ "$made" = yes ]; then
			value=$(node -p 'crypto.randomBytes(32).toString("base64")')
			echo "Made up: $value"
			echo 'Keep it in a safe place. It is shown this once, and cannot be read back.'
		fi
		why=$(refusal "$name" "$value")
		if [ -z "$why" ]; then break; fi
		echo "Not taken: $why."
	done
	printf %s "$value" | wrangler secret put "$name" --env "$environment"
}
has OPENROUTER_MANAGEMENT_KEY || put OPENROUTER_PROVISIONING_API_KEY 'the management key which OpenRouter gave you' yes no
put JWT_SECRET_CLOUD 'with which your tokens are signed, 32 bytes or more (empty: make one up)' yes yes
put KEY_ENCRYPTION_KEY '32 bytes in base64 (empty: make one up)' yes yes
put ADMIN_TOKEN 'with which operators come in, 32 bytes or more (empty: make one up; no: none, and no admin API)' no yes

wrangler deploy --env "$environment"
