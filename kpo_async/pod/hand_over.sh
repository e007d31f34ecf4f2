# shellcheck shell=sh disable=SC2086
# Hands the result over: `xcom_sidecar.py` says how, and puts numbers and paths in place of ${XCOM_...}, without quotes
# where a word is a number. For any POSIX sh with the usual small tools. These first comments stay out of the manifest.
# A pod that is deleted with a short grace period may write its file a moment after the sidecar's signal.
say() { printf '%s\n' "kpo-async/1 $*"; }
hand_over() {
  trap '' TERM INT
  file=${XCOM_FILE}; message=${XCOM_MESSAGE}
  [ -e "$file" ] || sleep 1
  [ -e "$file" ] || { say absent > "$message"; return; }
  [ -f "$file" ] || { say irregular > "$message"; return; }
  [ -r "$file" ] || { say unreadable > "$message"; return; }
  [ -s "$file" ] || { say empty > "$message"; return; }
  size=$(($(wc -c < "$file")))
  sum=$(sha256sum < "$file" 2>/dev/null) || sum=-
  sum=${sum%% *}
  other=$(($(LC_ALL=C tr -d '\11\12\15\40-\176' < "$file" | wc -c)))
  where=log
  if [ "$other" -eq 0 ]; then
    [ "$size" -le "${XCOM_LIMIT}" ] && where=text
  else
    [ "$((size * 4 / 3 + 4))" -le "${XCOM_LIMIT}" ] && where=base64
  fi
  case $where in
    text) { say text "$size" "$sum"; cat "$file"; } > "$message" ;;
    base64) { say base64 "$size" "$sum"; base64 < "$file" | tr -d '\n'; } > "$message" ;;
    log) say log "$size" "$sum" > "$message" ;;
  esac
  [ $where = log ] || [ "$size" -gt ${XCOM_INSURED} ] || return 0
  if command -v gzip > /dev/null; then
    say begin gzip "$size" "$sum"; gzip -c < "$file" | base64 | tr -d '\n'
  else
    say begin plain "$size" "$sum"; base64 < "$file" | tr -d '\n'
  fi
  echo; say end
}
