# Vivado in project mode, with IP integrator (UG835, UG994; pins and settings from PG082, PG201, PG247, PG164, PG065, PG099).

# ---- the catalog: settings, and from them pins and interfaces, of every IP ---------------------------------------------
# settings(IP): name kind ...; a shape is a list of pins {name direction role} and interfaces {name mode clock}.
# Roles: clk, rst_n, rst, intr, data; an input whose name ends in ? may stay open.
set settings(processing_system7) {
    PCW_USE_M_AXI_GP0 {0 1} PCW_EN_CLK0_PORT {0 1} PCW_EN_RST0_PORT {0 1} PCW_USE_FABRIC_INTERRUPT {0 1} PCW_IRQ_F2P_INTR {0 1}
    PCW_FPGA0_PERIPHERAL_FREQMHZ real PCW_CRYSTAL_PERIPHERAL_FREQMHZ real
    PCW_PRESET_BANK0_VOLTAGE {"LVCMOS 3.3V" "LVCMOS 2.5V" "LVCMOS 1.8V" "HSTL 1.8V"}
    PCW_PRESET_BANK1_VOLTAGE {"LVCMOS 3.3V" "LVCMOS 2.5V" "LVCMOS 1.8V" "HSTL 1.8V"}
}
foreach n {0 1 2 3} { lappend settings(processing_system7) PCW_USE_S_AXI_HP$n {0 1} PCW_S_AXI_HP${n}_DATA_WIDTH {32 64} }
set settings(zynq_ultra_ps_e) {
    PSU__USE__M_AXI_GP0 {0 1} PSU__USE__M_AXI_GP1 {0 1} PSU__USE__M_AXI_GP2 {0 1} PSU__MAXIGP0__DATA_WIDTH {32 64 128}
    PSU__USE__IRQ0 {0 1} PSU__FPGA_PL0_ENABLE {0 1} PSU__USE__FABRIC__RST {0 1} PSU__NUM_FABRIC_RESETS 0..4
    PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ real PSU__PSS_REF_CLK__FREQMHZ real
}
foreach n {0 1 2 3 4 5 6} { lappend settings(zynq_ultra_ps_e) PSU__USE__S_AXI_GP$n {0 1} PSU__SAXIGP${n}__DATA_WIDTH {32 64 128} }
set settings(smartconnect) {NUM_SI 1..16 NUM_MI 1..16 NUM_CLKS 1..2 HAS_ARESETN {0 1}}
set settings(proc_sys_reset) {C_EXT_RST_WIDTH 1..16 C_AUX_RST_WIDTH 1..16}
set settings(clk_wiz) {
    PRIM_SOURCE {Single_ended_clock_capable_pin Differential_clock_capable_pin Global_buffer No_buffer} PRIM_IN_FREQ real
    CLKOUT1_REQUESTED_OUT_FREQ real USE_LOCKED {true false} USE_RESET {true false} RESET_TYPE {ACTIVE_HIGH ACTIVE_LOW}
}
set settings(axi_intc) {C_IRQ_CONNECTION {0 1} C_KIND_OF_INTR any}
set settings(xlconcat) {NUM_PORTS 1..128}
set settings(ilconcat) {NUM_PORTS 1..128}
set settings(hlsgen_engine) {}

set defaults(processing_system7) {PCW_USE_M_AXI_GP0 1 PCW_EN_CLK0_PORT 1 PCW_EN_RST0_PORT 1 PCW_FPGA0_PERIPHERAL_FREQMHZ 50
    PCW_USE_FABRIC_INTERRUPT 0 PCW_IRQ_F2P_INTR 0 PCW_USE_S_AXI_HP0 0 PCW_USE_S_AXI_HP1 0 PCW_USE_S_AXI_HP2 0 PCW_USE_S_AXI_HP3 0}
set defaults(zynq_ultra_ps_e) {PSU__USE__M_AXI_GP0 1 PSU__USE__M_AXI_GP1 1 PSU__USE__M_AXI_GP2 0 PSU__USE__IRQ0 0
    PSU__FPGA_PL0_ENABLE 1 PSU__USE__FABRIC__RST 1 PSU__NUM_FABRIC_RESETS 1 PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ 100
    PSU__USE__S_AXI_GP0 0 PSU__USE__S_AXI_GP1 0 PSU__USE__S_AXI_GP2 0 PSU__USE__S_AXI_GP3 0 PSU__USE__S_AXI_GP4 0
    PSU__USE__S_AXI_GP5 0 PSU__USE__S_AXI_GP6 0}
set defaults(smartconnect) {NUM_SI 2 NUM_MI 1 NUM_CLKS 1}
set defaults(clk_wiz) {PRIM_SOURCE Single_ended_clock_capable_pin PRIM_IN_FREQ 100 CLKOUT1_REQUESTED_OUT_FREQ 100
    USE_LOCKED true USE_RESET true RESET_TYPE ACTIVE_HIGH}
set defaults(xlconcat) {NUM_PORTS 2}
set defaults(ilconcat) {NUM_PORTS 2}
foreach ip {proc_sys_reset axi_intc hlsgen_engine} { set defaults($ip) {} }

proc shape {ip config} {
    set pins {}
    set interfaces {}
    switch $ip {
        processing_system7 {
            if {[dict get $config PCW_EN_CLK0_PORT]} { lappend pins {FCLK_CLK0 O clk} }
            if {[dict get $config PCW_EN_RST0_PORT]} { lappend pins {FCLK_RESET0_N O rst_n} }
            if {[dict get $config PCW_USE_M_AXI_GP0]} {
                lappend pins {M_AXI_GP0_ACLK I clk}
                lappend interfaces {M_AXI_GP0 Master M_AXI_GP0_ACLK}
            }
            if {[dict get $config PCW_USE_FABRIC_INTERRUPT] && [dict get $config PCW_IRQ_F2P_INTR]} { lappend pins {IRQ_F2P I intr} }
            foreach n {0 1 2 3} {
                if {![dict get $config PCW_USE_S_AXI_HP$n]} { continue }
                lappend pins "S_AXI_HP${n}_ACLK I clk"
                lappend interfaces "S_AXI_HP$n Slave S_AXI_HP${n}_ACLK"
            }
            lappend interfaces {DDR External {}} {FIXED_IO External {}}
        }
        zynq_ultra_ps_e {
            if {[dict get $config PSU__FPGA_PL0_ENABLE]} { lappend pins {pl_clk0 O clk} }
            if {[dict get $config PSU__USE__FABRIC__RST]} { lappend pins {pl_resetn0 O rst_n} }
            foreach {n name} {0 hpm0_fpd 1 hpm1_fpd 2 hpm0_lpd} {
                if {![dict get $config PSU__USE__M_AXI_GP$n]} { continue }
                lappend pins "maxi${name}_aclk I clk"
                lappend interfaces "M_AXI_[string toupper $name] Master maxi${name}_aclk"
            }
            if {[dict get $config PSU__USE__IRQ0]} { lappend pins {pl_ps_irq0 I intr} }
            foreach {n name} {0 HPC0_FPD 1 HPC1_FPD 2 HP0_FPD 3 HP1_FPD 4 HP2_FPD 5 HP3_FPD 6 LPD} {
                if {![dict get $config PSU__USE__S_AXI_GP$n]} { continue }
                set clock saxi[string tolower $name]_aclk
                lappend pins "$clock I clk"
                lappend interfaces "S_AXI_$name Slave $clock"
            }
        }
        smartconnect {
            lappend pins {aclk I clk} {aresetn I rst_n}
            for {set n 0} {$n < [dict get $config NUM_SI]} {incr n} { lappend interfaces [list [format S%02d_AXI $n] Slave aclk] }
            for {set n 0} {$n < [dict get $config NUM_MI]} {incr n} { lappend interfaces [list [format M%02d_AXI $n] Master aclk] }
        }
        proc_sys_reset {
            lappend pins {slowest_sync_clk I clk} {ext_reset_in I rst_n} {aux_reset_in? I rst_n} {mb_debug_sys_rst? I rst} {dcm_locked? I data}
            lappend pins {mb_reset O rst} {bus_struct_reset O rst} {peripheral_reset O rst} {interconnect_aresetn O rst_n} {peripheral_aresetn O rst_n}
        }
        clk_wiz {
            lappend pins {clk_in1 I clk} {clk_out1 O clk}
            if {[dict get $config USE_LOCKED]} { lappend pins {locked O data} }
            if {[dict get $config USE_RESET]} {
                lappend pins [expr {[dict get $config RESET_TYPE] eq "ACTIVE_LOW" ? {resetn I rst_n} : {reset I rst}}]
            }
        }
        axi_intc {
            lappend pins {s_axi_aclk I clk} {s_axi_aresetn I rst_n} {intr I intr}
            lappend interfaces {s_axi Slave s_axi_aclk}
            if {[dict exists $config C_IRQ_CONNECTION] && [dict get $config C_IRQ_CONNECTION]} { lappend pins {irq O intr} }
        }
        xlconcat - ilconcat {
            for {set n 0} {$n < [dict get $config NUM_PORTS]} {incr n} { lappend pins "In$n I intr" }
            lappend pins {dout O intr}
        }
        hlsgen_engine {
            lappend pins {ap_clk I clk} {ap_rst_n I rst_n} {interrupt O intr}
            lappend interfaces {s_axi_control Slave ap_clk}
            foreach master $::facts(masters) { lappend interfaces "m_axi_$master Master ap_clk" }
        }
    }
    return [list $pins $interfaces]
}

# Address segments behind a slave interface: name, base (any where empty), size.
proc segments_of {interface} {
    global facts
    lassign [split [string trimleft $interface /] /] cell name
    switch $::cell_ip(/$cell) {
        hlsgen_engine { return [list [list /$cell/$name/Reg "" 0x10000]] }
        axi_intc { return [list [list /$cell/S_AXI/Reg "" 0x10000]] }
        processing_system7 {
            regexp {HP(\d)} $name -> n
            return [list [list /$cell/$name/HP${n}_DDR_LOWOCM 0 [expr {$facts(ddr_mb) << 20}]]]
        }
        zynq_ultra_ps_e {
            regexp {HP(\d)} $name -> n
            set base /$cell/SAXIGP[expr {$n + 2}]/HP${n}
            set found [list [list ${base}_DDR_LOW 0 [expr {min($facts(ddr_mb), 2048) << 20}]] \
                [list ${base}_QSPI 0xC0000000 0x20000000] [list ${base}_LPS_OCM 0xFF000000 0x1000000]]
            if {$facts(ddr_mb) > 2048} { lappend found [list ${base}_DDR_HIGH 0x800000000 [expr {($facts(ddr_mb) - 2048) << 20}]] }
            return $found
        }
    }
    return {}
}

# ---- project ----------------------------------------------------------------------------------------------------------
array set state {project "" design "" validated 0 saved 0 generated 0 wrapper "" top "" opened "" catalog {} repositories {}}
array set cell_ip {}
array set config {}
array set pins {}
array set interfaces {}
array set net {}
array set peer {}
array set external {}
array set placed {}
array set excluded {}
array set run {}
proc need {what text} { if {!$what} { refuse "[lindex [info level -1] 0]: $text" } }

command version {-short flag} 0 0 { return $::facts(version) }
command create_project {-force flag -part any -in_memory flag} 1 2 {
    if {$opt(-part) ne $::facts(part)} { refuse "create_project: no part $opt(-part)" }
    set ::state(project) [lindex $words 0]
    set ::state(folder) [lindex $words 1]
    set ::state(part) $opt(-part)
    if {[file exists [lindex $words 1]] && ![info exists opt(-force)]} { refuse "the project exists; -force replaces it" }
    file mkdir [lindex $words 1]
}
command current_project {} 0 0 { need [expr {$::state(project) ne ""}] "no project"; return project }
command current_fileset {} 0 0 { return fileset:sources_1 }
command get_board_parts {-quiet flag -latest_file_version flag} 0 1 {
    set hits {}
    foreach {board part} $::facts(boards) { if {[string match [lindex $words 0] $board]} { lappend hits $board } }
    return $hits
}
command update_ip_catalog {-rebuild flag} 0 0 {
    foreach folder $::state(repositories) {
        set in [open [file join $folder component.xml]]
        lappend ::state(catalog) [string trim [read $in]]
        close $in
    }
}
command get_ipdefs {-quiet flag -all flag -filter any} 0 1 {
    set hits {}
    foreach definition [concat $::state(catalog) $::facts(catalog)] {
        if {[string match [lindex $words 0] $definition]} { lappend hits $definition }
    }
    return $hits
}

# ---- block design -----------------------------------------------------------------------------------------------------
command create_bd_design {} 1 1 { need [expr {$::state(project) ne ""}] "no project"; set ::state(design) [lindex $words 0] }
command create_bd_cell {-type {ip module hier inline_hdl} -vlnv any} 1 1 {
    need [expr {$::state(design) ne ""}] "no block design"
    set name /[lindex $words 0]
    if {[info exists ::cell_ip($name)]} { refuse "a cell $name exists" }
    if {$opt(-vlnv) ni [concat $::state(catalog) $::facts(catalog)]} { refuse "no IP $opt(-vlnv) in the catalog" }
    lassign [split $opt(-vlnv) :] vendor library ip
    if {($library eq "inline_hdl") != ($opt(-type) eq "inline_hdl")} { refuse "$opt(-vlnv) is not of type $opt(-type)" }
    if {![info exists ::settings($ip)]} { refuse "the stand-in does not know $ip" }
    if {$ip eq "processing_system7" && ![string match xc7z* $::state(part)]} { refuse "$::state(part) has no PS7" }
    if {$ip eq "zynq_ultra_ps_e" && ![regexp {^xc(zu|k26)} $::state(part)]} { refuse "$::state(part) has no PS8" }
    set ::cell_ip($name) $ip
    set ::config($name) $::defaults($ip)
    reshape $name
    return $name
}
proc reshape {cell} {
    global pins interfaces
    array unset pins $cell/*
    array unset interfaces $cell/*
    lassign [shape $::cell_ip($cell) $::config($cell)] some others
    foreach entry $some { lassign $entry name direction role
        set optional [string match *\\? $name]
        set pins($cell/[string trimright $name ?]) [list $direction $role $optional] }
    foreach entry $others { lassign $entry name mode clock; set interfaces($cell/$name) [list $mode $clock] }
}
command apply_bd_automation {-rule any -config any} 1 1 {
    set cell [lindex $words 0]
    if {![info exists ::cell_ip($cell)]} { refuse "no cell $cell" }
    if {$opt(-rule) ne "xilinx.com:bd_rule:$::cell_ip($cell)"} { refuse "no rule $opt(-rule) for $::cell_ip($cell)" }
    foreach {name value} $opt(-config) {
        switch $name {
            apply_board_preset { if {$value ni {0 1}} { refuse "apply_board_preset is 0 or 1" }
                if {$value && ![info exists ::state(board)]} { refuse "a board preset without a board" } }
            make_external { foreach one [split [string map {{ } {}} $value] ,] {
                if {![info exists ::interfaces($cell/$one)]} { refuse "no interface $one" }
                set ::external($cell/$one) 1 } }
            Master - Slave { if {$value ne "Disable"} { refuse "$name $value" } }
            default { refuse "the rule has no setting $name" }
        }
    }
}
proc all_of {array_name pattern} {
    upvar #0 $array_name all
    if {![string match /* $pattern]} { set pattern /$pattern }
    set hits {}
    foreach name [lsort [array names all]] { if {[string match $pattern $name]} { lappend hits $name } }
    return $hits
}
proc answer {hits opt_list text} {
    if {[llength $hits] == 0 && "-quiet" ni $opt_list} { refuse "found no $text" }
    return $hits
}
command get_bd_cells {-quiet flag} 1 1 { answer [all_of cell_ip [lindex $words 0]] [array names opt] "cell $words" }
command get_bd_pins {-quiet flag -of_objects any} 1 1 { answer [all_of pins [lindex $words 0]] [array names opt] "pin $words" }
command get_bd_intf_pins {-quiet flag -of_objects any} 1 1 {
    answer [all_of interfaces [lindex $words 0]] [array names opt] "interface $words"
}
command connect_bd_net {-net any} 2 64 {
    global pins net
    set driver {}
    set joined {}
    foreach pin $words {
        if {![info exists pins($pin)]} { refuse "no pin $pin" }
        set joined [concat $joined [expr {[info exists net($pin)] ? $net($pin) : [list $pin]}]]
    }
    set joined [lsort -unique $joined]
    foreach pin $joined { if {[lindex $pins($pin) 0] eq "O"} { lappend driver $pin } }
    if {[llength $driver] > 1} { refuse "$words would be driven by $driver" }
    foreach pin $joined { set net($pin) $joined }
}
command connect_bd_intf_net {-intf_net any} 2 2 {
    global interfaces peer
    lassign $words a b
    foreach one $words {
        if {![info exists interfaces($one)]} { refuse "no interface $one" }
        if {[info exists peer($one)]} { refuse "$one is connected already" }
    }
    if {[lsort [list [lindex $interfaces($a) 0] [lindex $interfaces($b) 0]]] ne {Master Slave}} { refuse "$a and $b are not a master and a slave" }
    set peer($a) $b
    set peer($b) $a
}

# ---- addresses ----------------------------------------------------------------------------------------------------------
# The masters: a space and the interface it belongs to.
proc spaces {} {
    set found {}
    foreach cell [lsort [array names ::cell_ip]] {
        switch $::cell_ip($cell) {
            hlsgen_engine { foreach m $::facts(masters) { lappend found $cell/Data_m_axi_$m $cell/m_axi_$m } }
            processing_system7 { lappend found $cell/Data $cell/M_AXI_GP0 }
            zynq_ultra_ps_e { lappend found $cell/Data $cell/M_AXI_HPM0_FPD }
        }
    }
    return $found
}
# The slave interfaces that a master interface reaches, through SmartConnects.
proc reached {interface} {
    global peer
    if {![info exists peer($interface)]} { return {} }
    set other $peer($interface)
    set cell /[lindex [split $other /] 1]
    if {$::cell_ip($cell) ne "smartconnect"} { return [list $other] }
    set found {}
    foreach out [all_of interfaces $cell/M*_AXI] { set found [concat $found [reached $out]] }
    return $found
}
proc reachable {space} {
    set found {}
    foreach slave [reached [dict get [spaces] $space]] { set found [concat $found [segments_of $slave]] }
    return $found
}
proc number {text} {
    if {[regexp {^(\d+)([KMG])$} $text -> value unit]} { return [expr {$value << 10 * ([string first $unit KMG] + 1)}] }
    if {![string is wideinteger -strict $text]} { refuse "expected a number, got $text" }
    return [expr {wide($text)}]
}
command get_bd_addr_spaces {-quiet flag -of_objects any} 1 1 {
    set name /[string trimleft [lindex $words 0] /]
    if {$name ni [dict keys [spaces]]} { refuse "no address space $name" }
    return $name
}
command get_bd_addr_segs {-quiet flag -of_objects any -excluded flag} 0 1 {
    global placed excluded
    set hits {}
    if {[info exists opt(-of_objects)]} {
        set space $opt(-of_objects)
        if {[info exists opt(-excluded)]} { foreach key [array names excluded "$space *"] { lappend hits "$space/SEG_[string map {/ _} [lindex $key 1]]" } }
        if {![info exists opt(-excluded)]} { foreach key [array names placed "$space *"] { lappend hits "$space/SEG_[string map {/ _} [lindex $key 1]]" } }
        return $hits
    }
    foreach name [array names ::interfaces] {
        if {[lindex $::interfaces($name) 0] ne "Slave"} { continue }
        foreach segment [segments_of $name] {
            if {[string match /[string trimleft [lindex $words 0] /] [lindex $segment 0]]} { lappend hits [lindex $segment 0] }
        }
    }
    answer [lsort $hits] [array names opt] "segment $words"
}
command assign_bd_address {-offset any -range any -target_address_space any -force flag -import_from_file any -export_to_file any} 0 1 {
    global placed
    foreach name {-offset -range -target_address_space} { if {![info exists opt($name)]} { refuse "assign_bd_address without $name" } }
    set space $opt(-target_address_space)
    set segment [lindex $words 0]
    set reach [reachable $space]
    set entry [lsearch -inline -index 0 -exact $reach $segment]
    if {$entry eq ""} { refuse "$space does not reach $segment" }
    lassign $entry name base size
    set offset [number $opt(-offset)]
    set range [number $opt(-range)]
    if {$range < 4096 || $range & ($range - 1)} { refuse "a range is a power of two of at least 4K, got $opt(-range)" }
    if {$offset % $range} { refuse "$segment at $opt(-offset) is not a multiple of its range $opt(-range)" }
    if {$base ne "" && $offset != $base} { refuse "$segment lies at $base, got $opt(-offset)" }
    if {$range > $size} { refuse "$segment holds $size bytes, got a range of $range" }
    if {[string match */Data $space]} {
        lassign [expr {$::cell_ip(/[lindex [split $space /] 1]) eq "processing_system7" ? {0x40000000 0x7fffffff} : {0xA0000000 0xAfffffff}}] low high
        if {$offset < $low || $offset + $range - 1 > $high} { refuse "$opt(-offset) lies outside the master's window $low to $high" }
    }
    foreach key [array names placed "$space *"] {
        lassign $placed($key) at length
        if {[lindex $key 1] ne $segment && $offset < $at + $length && $at < $offset + $range} { refuse "$segment overlaps [lindex $key 1] in $space" }
    }
    set placed([list $space $segment]) [list $offset $range]
}
command exclude_bd_addr_seg {-target_address_space any -offset any -range any} 1 1 {
    global excluded placed
    set space $opt(-target_address_space)
    if {[lsearch -index 0 -exact [reachable $space] [lindex $words 0]] < 0} { refuse "$space does not reach $words" }
    if {[info exists placed([list $space [lindex $words 0]])]} { refuse "$words is placed in $space" }
    set excluded([list $space [lindex $words 0]]) 1
}

command validate_bd_design {-force flag -quiet flag} 0 0 {
    global pins interfaces net peer
    foreach pin [lsort [array names pins]] {
        lassign $pins($pin) direction role optional
        if {$direction eq "O"} { continue }
        if {![info exists net($pin)]} { if {$optional} { continue }; refuse "validate: $pin ($role) is not connected" }
        set driver ""
        foreach other $net($pin) { if {[lindex $pins($other) 0] eq "O"} { set driver $other } }
        if {$driver eq ""} { refuse "validate: $pin has no driver" }
        if {[lindex $pins($driver) 1] ne $role} { refuse "validate: $pin ($role) is driven by $driver ([lindex $pins($driver) 1])" }
    }
    foreach one [lsort [array names interfaces]] {
        lassign $interfaces($one) mode clock
        if {$mode eq "External"} { if {![info exists ::external($one)]} { refuse "validate: $one is not external" }; continue }
        if {![info exists peer($one)]} { refuse "validate: $one is not connected" }
        set cell /[lindex [split $one /] 1]
        set other $peer($one)
        set other_cell /[lindex [split $other /] 1]
        set other_clock $other_cell/[lindex $interfaces($other) 1]
        if {$net($cell/$clock) ne $net($other_clock)} { refuse "validate: $one and $other run on different clocks" }
    }
    foreach {space interface} [spaces] {
        foreach segment [reachable $space] {
            set key [list $space [lindex $segment 0]]
            if {![info exists ::placed($key)] && ![info exists ::excluded($key)]} { refuse "validate: [lindex $key 1] has no address in $space" }
        }
    }
    set ::state(validated) 1
}
command save_bd_design {} 0 0 { need $::state(validated) "validate the design first"; set ::state(saved) 1 }

# ---- properties -----------------------------------------------------------------------------------------------------------
proc frequency {cell} {
    set config $::config($cell)
    switch $::cell_ip($cell) {
        processing_system7 { set f [dict get $config PCW_FPGA0_PERIPHERAL_FREQMHZ]; return [expr {1000.0 / max(1, round(1000.0 / $f))}] }
        zynq_ultra_ps_e { set f [dict get $config PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ]; return [expr {1499.985 / max(1, round(1500.0 / $f))}] }
        clk_wiz {
            set source [frequency_of_pin $cell/clk_in1]
            if {abs($source - [dict get $config PRIM_IN_FREQ]) > 0.01} { refuse "$cell gets $source MHz and is set to [dict get $config PRIM_IN_FREQ]" }
            return [dict get $config CLKOUT1_REQUESTED_OUT_FREQ]
        }
    }
}
proc frequency_of_pin {pin} {
    foreach other $::net($pin) { if {[lindex $::pins($other) 0] eq "O"} { return [frequency /[lindex [split $other /] 1]] } }
}
proc set_one {name value object} {
    global state config cell_ip settings
    if {[info exists cell_ip($object)]} {
        if {![string match CONFIG.* $name]} { refuse "set_property $name on a cell" }
        set name [string range $name 7 end]
        set ip $cell_ip($object)
        if {![dict exists $settings($ip) $name]} { refuse "$ip has no setting $name" }
        if {![fits [dict get $settings($ip) $name] $value]} { refuse "$ip $name expects [dict get $settings($ip) $name], got '$value'" }
        dict set config($object) $name $value
        reshape $object
        return
    }
    switch -glob $object,$name {
        project,board_part {
            if {![dict exists $::facts(boards) $value]} { refuse "no board $value" }
            set state(board) $value
            set state(part) [dict get $::facts(boards) $value]
        }
        project,board_connections { if {[lindex $value 1] ni $::facts(carriers)} { refuse "no carrier $value" } }
        project,ip_repo_paths { foreach one $value { if {![file isdirectory $one]} { refuse "no folder $one" } }; set state(repositories) $value }
        file:*,synth_checkpoint_mode { if {$value ni {None Singular Hierarchical}} { refuse "synth_checkpoint_mode $value" } }
        fileset:sources_1,top { if {$value ne $state(wrapper)} { refuse "no module $value" }; set state(top) $value }
        design,BITSTREAM.GENERAL.COMPRESS { if {$value ni {TRUE FALSE}} { refuse "$name $value" } }
        run:impl_1,STEPS.PHYS_OPT_DESIGN.IS_ENABLED { if {$value ni {true false 0 1}} { refuse "$name $value" } }
        default { refuse "set_property $name on $object" }
    }
}
command set_property {-dict any -quiet flag} 1 3 {
    if {[info exists opt(-dict)]} {
        if {[llength $words] != 1} { refuse "set_property -dict expects one object" }
        if {[llength $opt(-dict)] % 2} { refuse "set_property -dict expects pairs" }
        foreach {name value} $opt(-dict) { set_one $name $value [lindex $words 0] }
    } else {
        if {[llength $words] != 3} { refuse "set_property expects name, value and object" }
        set_one {*}$words
    }
}
command get_property {-quiet flag} 2 2 {
    lassign $words name object
    switch -glob $name {
        CONFIG.PCW_ACT_FPGA0_PERIPHERAL_FREQMHZ - CONFIG.PSU__CRL_APB__PL0_REF_CTRL__ACT_FREQMHZ {
            if {![info exists ::cell_ip($object)] || [string match *PCW* $name] != ($::cell_ip($object) eq "processing_system7")} { refuse "$object has no $name" }
            return [format %.6f [frequency $object]]
        }
        CONFIG.FREQ_HZ { if {![info exists ::pins($object)]} { refuse "no pin $object" }
            return [expr {round(1e6 * [frequency /[lindex [split $object /] 1]])}] }
        part { return $::state(part) }
        OFFSET - RANGE {
            foreach key [array names ::placed] {
                if {"[lindex $key 0]/SEG_[string map {/ _} [lindex $key 1]]" ne $object} { continue }
                lassign $::placed($key) at length
                return [expr {$name eq "OFFSET" ? [format 0x%016llX $at] : [human $length]}]
            }
            refuse "no placed segment $object"
        }
        PROGRESS { return [expr {[info exists ::run($object)] ? $::run($object) : "0%"}] }
        STATUS { return "$object stopped" }
        SLACK { return [expr {$object eq "path:max" ? $::facts(wns) : $::facts(whs)}] }
    }
    refuse "get_property $name of $object"
}
proc human {length} {
    foreach {unit shift} {G 30 M 20 K 10} { if {$length % (1 << $shift) == 0} { return [expr {$length >> $shift}]$unit } }
    return $length
}

# ---- from the design to the bitstream ----------------------------------------------------------------------------------------
command get_files {-quiet flag} 1 1 { if {[lindex $words 0] ne "$::state(design).bd"} { refuse "no file $words" }; return file:[lindex $words 0] }
command generate_target {-force flag} 2 2 {
    need $::state(saved) "the block design is not saved"
    if {[lindex $words 0] ni {all synthesis simulation}} { refuse "no target [lindex $words 0]" }
    set kind [expr {[at_least 2020.2] ? "gen" : "srcs"}]
    write_text $::state(folder)/$::state(project).$kind/sources_1/bd/system/hw_handoff/system.hwh "<EDKSYSTEM/>"
    set ::state(generated) 1
}
command make_wrapper {-files any -top flag -import flag -force flag} 0 0 {
    need $::state(generated) "generate the targets first"
    set ::state(wrapper) $::state(design)_wrapper
    set path $::state(folder)/wrapper/$::state(wrapper).v
    write_text $path "module $::state(wrapper)"
    return $path
}
command add_files {-norecurse flag -fileset {constrs_1 sources_1 sim_1} -scan_for_includes flag} 1 1 {
    foreach name [lindex $words 0] { if {![file exists $name]} { refuse "add_files: no file $name" } }
    if {[info exists opt(-fileset)] && $opt(-fileset) eq "constrs_1"} { lappend ::state(constraints) [lindex $words 0] }
}
command update_compile_order {-fileset {sources_1 sim_1}} 0 0 {}
command get_runs {-quiet flag} 1 1 { if {[lindex $words 0] ni {synth_1 impl_1}} { refuse "no run $words" }; return run:[lindex $words 0] }
command launch_runs {-jobs 1..64 -to_step {synth_design opt_design place_design route_design write_bitstream} -force flag} 1 1 {
    global run
    need [expr {$::state(top) ne ""}] "no top module"
    set name run:[lindex $words 0]
    if {$name eq "run:impl_1" && (![info exists run(run:synth_1)] || $run(run:synth_1) ne "100%")} { refuse "impl_1 needs synth_1 first" }
    set run($name) waiting
    set ::state(step) [expr {[info exists opt(-to_step)] ? $opt(-to_step) : ""}]
}
proc waited {name} {
    global run facts
    if {![info exists run(run:$name)]} { refuse "$name was not launched" }
    set run(run:$name) [expr {$name eq $facts(stops) ? "42%" : "100%"}]
    if {$::state(step) eq "write_bitstream"} { write_text $::state(folder)/$::state(project).runs/impl_1/system_wrapper.bit bits }
}
if {[at_least 2021.2]} {
    command wait_on_runs {-timeout int} 1 2 { foreach name $words { waited $name } }
} else {
    command wait_on_run {-timeout int} 1 1 { waited [lindex $words 0] }
}
command open_run {-name any} 1 1 {
    if {$::run(run:[lindex $words 0]) ne "100%"} { refuse "[lindex $words 0] has not run" }
    set ::state(opened) [lindex $words 0]
    foreach path $::state(constraints) { interp eval user [list source $path] }
}
command current_design {} 0 0 { need [expr {$::state(opened) ne ""}] "no design is open"; return design }
foreach {name options} {
    report_utilization {-file any -hierarchical flag} report_timing_summary {-file any -max_paths int -delay_type {min max min_max}}
    report_power {-file any}
} {
    command $name $options 0 0 {
        need [expr {$::state(opened) ne ""}] "no design is open"
        if {![file isdirectory [file dirname $opt(-file)]]} { refuse "no folder [file dirname $opt(-file)]" }
        write_text $opt(-file) report
    }
}
command get_timing_paths {-delay_type {min max min_max} -max_paths int -nworst int} 0 0 {
    need [expr {$::state(opened) ne ""}] "no design is open"
    return path:$opt(-delay_type)
}
command close_design {} 0 0 { need [expr {$::state(opened) ne ""}] "no design is open"; set ::state(opened) "" }
command write_hw_platform {-fixed flag -include_bit flag -force flag -file any -minimal flag -hw flag} 0 0 {
    if {[info exists opt(-include_bit)] && ![file exists $::state(folder)/$::state(project).runs/impl_1/system_wrapper.bit]} { refuse "no bitstream to include" }
    write_text $opt(-file) xsa
}
