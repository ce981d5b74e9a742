#!/bin/sh
# workerd, with its log added to a file: see workerd.mjs.
exec "$WORKERD" "$@" >>"$WORKERD_LOG"
