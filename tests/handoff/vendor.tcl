# A stand-in for the Tcl interpreters of Vitis HLS and Vivado, for a plain tclsh:
#
#   tclsh vendor.tcl TOOL FACTS RECORD SCRIPT ARGUMENTS...
#
# TOOL is hls or vivado. FACTS is a file that sets the array `facts` (version, part, boards, ...). Every call is written to
# RECORD. Commands, options and values are those of UG1399 (HLS) and UG835, UG994 (Vivado), as far as scripts here use them;
# whatever else is asked is refused. For Vivado it keeps the block design, and validates it: pins and interfaces exist, no
# net has two drivers, clocks, resets and interrupts are connected to their kind, interfaces join a master and a slave on
# one clock, every reachable address segment is placed or excluded, none overlap.

lassign $argv tool facts_file record_file script
set argv [lrange $argv 4 end]
source $facts_file
set record [open $record_file w]

proc refuse {text} { return -code error -errorcode REFUSED "refused: $text" }

# ---- declaring commands ----------------------------------------------------------------------------------------------
# command NAME {-option kind ...} LEAST MOST BODY: kind is flag, any, int, real, or a list of values. In BODY the options
# given are in the array opt, and the other words in the list words.
# The script runs in an interpreter of its own, which knows these commands and Tcl's own, and none of this file's variables.
interp create user
proc command {name options least most body} {
    interp alias user $name {} $name
    proc $name args "
        lassign \[parse [list $name] [list $options] $least $most \$args\] given words
        array set opt \$given
        $body
    "
}
proc parse {name options least most args_given} {
    global record
    puts $record [concat $name $args_given]
    set given {}
    set words {}
    for {set i 0} {$i < [llength $args_given]} {incr i} {
        set word [lindex $args_given $i]
        set value ""
        if {[regexp {^-[a-zA-Z]} $word]} {
            set joined [regexp {^(-[A-Za-z0-9_]+)=(.*)$} $word -> word value]
            if {![dict exists $options $word]} { refuse "$name has no option $word" }
            set kind [dict get $options $word]
            if {$kind eq "flag"} {
                if {$joined && $value ni {true false 0 1}} { refuse "$name $word is true or false, got $value" }
                lappend given $word [expr {$joined ? $value : 1}]
                continue
            }
            if {!$joined} {
                if {[incr i] >= [llength $args_given]} { refuse "$name $word needs a value" }
                set value [lindex $args_given $i]
            }
            if {![fits $kind $value]} { refuse "$name $word expects $kind, got '$value'" }
            lappend given $word $value
        } else {
            lappend words $word
        }
    }
    if {[llength $words] < $least || [llength $words] > $most} {
        refuse "$name expects $least to $most words besides its options, got [llength $words]: $words"
    }
    return [list $given $words]
}
proc fits {kind value} {
    if {$kind eq "any"} { return [expr {$value ne ""}] }
    if {$kind eq "int"} { return [string is integer -strict $value] }
    if {$kind eq "real"} { return [string is double -strict $value] }
    if {[regexp {^(\d+)\.\.(\d+)$} $kind -> low high]} {
        return [expr {[string is integer -strict $value] && $value >= $low && $value <= $high}]
    }
    return [expr {$value in $kind}]
}
proc unknown_to_user {args} { refuse "no command [lindex $args 0]" }
proc at_least {wanted} {
    global facts
    lassign [split $wanted .] y r
    lassign [split $facts(version) .] year release
    return [expr {$year > $y || ($year == $y && $release >= $r)}]
}
proc write_text {path text} {
    file mkdir [file dirname $path]
    set out [open $path w]
    puts $out $text
    close $out
}

source [file join [file dirname [info script]] vendor_$tool.tcl]
interp alias user unknown {} unknown_to_user
interp eval user [list set argv $argv]
interp eval user [list set argv0 $script]
set status [catch { interp eval user [list source $script] } message]
close $record
if {$status} {
    puts stderr "stand-in: $message"
    exit 1
}
