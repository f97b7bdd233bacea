#!/bin/sh
# Plants one mistake at a time in the node and demands that the random seeds notice it.
#   fuzz/sim/mutants.sh [seeds, 300]
# Works on a copy of the tree, under target/mutants.
set -eu
cd "$(dirname "$0")/../.."
seeds=${1:-300}
work=target/mutants
mkdir -p "$work/tree"
missed=0
last=

# mutant <name> <file> <perl substitution, which must change the file>
mutant() {
    git archive HEAD | tar -x -C "$work/tree"
    # The file healed from the last mistake is as new as the one that gets the next.
    [ -z "$last" ] || touch "$work/tree/$last"
    last=$2
    before=$(cksum < "$work/tree/$2")
    perl -0pi -e "$3" "$work/tree/$2"
    if [ "$before" = "$(cksum < "$work/tree/$2")" ]; then
        echo "$1: the mutation no longer applies to $2"
        missed=$((missed + 1))
        return
    fi
    # A mistake is planted, so warnings about it are beside the point.
    if ! (cd "$work/tree" && cargo build -q -p sim --target-dir ../build 2> ../errors); then
        echo "$1: does not compile (see $work/errors)"
        missed=$((missed + 1))
        return
    fi
    if "$work/build/debug/sim" --seeds "$seeds" > "$work/out" 2>&1; then
        echo "$1: MISSED by $seeds seeds"
        missed=$((missed + 1))
    else
        found=$(sed -n '/^seed .* failed at/{n;p;q;}' "$work/out" | cut -c1-90)
        echo "$1: caught: $found"
    fi
}

mutant "no ACK of a 2xx" sbc/src/call/hunt.rs \
    's/    acknowledge\(call, core, turn, place, None\);\n    Ok\(sdp\)/    Ok(sdp)/'
mutant "a place on the trunk is not given back" sbc/src/call/release.rs \
    's/admission::leave\(&core.page, trunk\);/let _ = trunk;/'
mutant "no stop frame" sbc/src/call/release.rs \
    's/core\.journal\(turn, &Frame::Stop\(call\.cdr\.clone\(\)\)\);//'
mutant "the answer frame comes after the 200" sbc/src/call/hunt.rs \
    's/    core\.journal\(turn, &Frame::Answer\(call\.cdr\.clone\(\)\)\);\n//'
mutant "any tag of a call is taken" sbc/src/signal/request.rs \
    's/ours\.secret == tag\.secret && tag\.fork <= ours\.fork/true/'
mutant "anybody may speak within a dialog" sbc/src/signal/request.rs \
    's/leg\.port == at\.port\s+&& \(leg/leg.port == at.port || (leg/'
mutant "a port is released twice" media/src/media.rs \
    's/self\.ports\.free\(gone\.ports\.interface, gone\.slot, now\);/self.ports.free(gone.ports.interface, gone.slot, now); self.ports.free(gone.ports.interface, gone.slot, now);/'
mutant "a port is never released" sbc/src/call/release.rs \
    's/let Some\(report\) = turn\.media\.release\(end, turn\.now\.mono\) else/let Some(report) = turn.media.report(end) else/'
mutant "media from anybody is relayed" media/src/relay.rs \
    's/Source::Stranger => return Err\(Discard::WrongSource\),/Source::Stranger => {}/'
mutant "a second 2xx is passed on" sbc/src/transaction/server_invite.rs \
    's/self\.state == State::Proceeding\n/matches!(self.state, State::Proceeding | State::Accepted)\n/'
mutant "a call is not frozen when it changes" sbc/src/signal/record.rs \
    's/if !call\.dirty \{/if !call.dirty && call.told.is_none() {/'
mutant "a retransmitted INVITE is a new one" sbc/src/signal/request.rs \
    's/let Some\(key\) = self\.core\.transactions\.find\(at\.hash\) else \{ return false \};/let Some(key) = self.core.transactions.find(at.hash).filter(|_| method != Method::Invite) else { return false };/'
mutant "timer H never fires" sbc/src/transaction/server_invite.rs \
    's/\(now \+ t\.t1, now \+ t\.give_up\(\)\)/(now + t.t1, Instant::NEVER)/'
mutant "the capacity of a trunk is one more" base/src/page.rs \
    's/\(n < limit\)/(n <= limit)/'
mutant "a CDR that stands already is written again" node/src/shard.rs \
    's/let booked = ledger\.stopped\.contains\(&record\.cdr_id\(\)\);/let booked = false;/'
mutant "an open call is not closed from the journal" node/src/shard.rs \
    's/signal\.close\(&mut turn, cdr, last_known\);/let _ = (cdr, last_known);/'
mutant "thaw forgets what a call holds" sbc/src/signal/record.rs \
    's/self\.core\.page\.add\(Image::calls_word\(\*trunk\)\);/let _ = trunk;/'
mutant "no 487 after a CANCEL" sbc/src/signal/request.rs \
    's/release::cancelled\(call, &mut self\.core, turn\);/let _ = call;/'
mutant "a reload gives a trunk the number of another" sbc/src/policy/succession.rs \
    's/ids\.get\(&trunk\.name\)\.copied\(\)\.unwrap_or\(trunks\.len\(\)\)/id_of.len()/'

echo "missed $missed"
[ "$missed" -eq 0 ]
