# Vitis HLS, `open_project` flow (UG1399, "Tcl Commands").
if {![at_least 2020.1]} { refuse "Vitis HLS begins with 2020.1" }
array set hls {project "" solution "" top "" part "" period "" synthesized 0 flow "" files {}}
proc need {what} {
    global hls
    foreach name $what { if {$hls($name) eq "" || $hls($name) eq "0"} { refuse "[lindex [info level -1] 0] needs $name first" } }
}

command open_project {-reset flag} 1 1 {
    global hls
    set hls(project) [lindex $words 0]
    if {[info exists opt(-reset)]} { file delete -force $hls(project) }
    file mkdir $hls(project)
}
command set_top {} 1 1 { global hls; need project; set hls(top) [lindex $words 0] }
command add_files {-tb flag -cflags any -csimflags any -blackbox any} 1 1 {
    global hls
    need project
    foreach name [lindex $words 0] {
        if {![file exists $name]} { refuse "add_files: $name does not exist" }
        set kind [expr {[info exists opt(-tb)] ? "tb" : "source"}]
        lappend hls(files) $kind $name
    }
    foreach flag [expr {[info exists opt(-cflags)] ? $opt(-cflags) : {}}] {
        if {[regexp {^-I(.*)} $flag -> folder] && ![file isdirectory $folder]} { refuse "no folder $folder" }
    }
}
command open_solution {-reset flag -flow_target {vivado vitis}} 1 1 {
    global hls
    need project
    set hls(solution) [lindex $words 0]
    set hls(flow) [expr {[info exists opt(-flow_target)] ? $opt(-flow_target) : "vivado"}]
    set hls(synthesized) [file exists $hls(project)/$hls(solution)/syn/report/csynth.xml]
}
command set_part {} 1 1 {
    global hls facts
    need solution
    if {[lindex $words 0] ne $facts(part)} { refuse "no part [lindex $words 0]" }
    set hls(part) [lindex $words 0]
}
command create_clock {-period any -name any} 0 1 {
    global hls
    need solution
    if {![regexp {^[0-9.]+(ns|MHz)?$} $opt(-period)]} { refuse "create_clock -period $opt(-period)" }
    set hls(period) $opt(-period)
}
set interface_options {
    -m_axi_addr64 flag -m_axi_offset {off direct slave} -m_axi_latency int -m_axi_alignment_byte_size int
    -m_axi_max_bitwidth {8 16 32 64 128 256 512 1024} -m_axi_min_bitwidth {8 16 32 64 128 256 512 1024}
    -register_io {off scalar_in scalar_out scalar_all} -clock_enable flag -trim_dangling_port flag -s_axilite_data64 flag
    -m_axi_max_read_burst_length int -m_axi_max_write_burst_length int -m_axi_num_read_outstanding int
}
if {[at_least 2020.2]} {
    append interface_options { -m_axi_max_widen_bitwidth {0 8 16 32 64 128 256 512 1024}}
}
command config_interface $interface_options 0 0 { global hls; need solution }
command csim_design {-O flag -argv any -clean flag -ldflags any -mflags any -profile flag -setup flag -compiler {gcc clang}} 0 0 {
    need {top part period}
    no_argument_missing $opt(-argv)
}
proc no_argument_missing {arguments} {
    if {![file isdirectory [lindex $arguments 0]]} { refuse "the test bench's data folder [lindex $arguments 0] does not exist" }
}
command csynth_design {} 0 0 {
    global hls
    need {top part period files}
    foreach {kind name} $hls(files) { if {$kind eq "source"} { set text [read [set in [open $name]]]; close $in } }
    if {![regexp "void\\s+$hls(top)\\s*\\(" $text]} { refuse "no function $hls(top)" }
    write_text $hls(project)/$hls(solution)/syn/report/csynth.xml <csynth/>
    set hls(synthesized) 1
}
command cosim_design {-rtl {verilog vhdl} -argv any -O flag -setup flag -tool any -trace_level {none all port port_hier}
        -ldflags any -mflags any -wave_debug flag -random_stall flag} 0 0 {
    global hls
    need synthesized
    no_argument_missing $opt(-argv)
    write_text $hls(project)/$hls(solution)/sim/report/$hls(top)_cosim.rpt Pass
}
command export_design {-format {ip_catalog sysgen syn_dcp xo} -rtl {verilog vhdl} -vendor any -library any -ipname any
        -version any -display_name any -description any -taxonomy any -output any -flow {syn impl none}} 0 0 {
    global hls facts
    need synthesized
    if {$opt(-format) eq "xo"} {
        if {$hls(flow) ne "vitis"} { refuse "export_design -format xo needs open_solution -flow_target vitis" }
        foreach name {-vendor -library -ipname -version} { if {[info exists opt($name)]} { refuse "$name is for IPs" } }
        write_text [expr {[info exists opt(-output)] ? $opt(-output) : "$hls(project)/$hls(solution)/impl/export.xo"}] xo
        return
    }
    foreach {name value} {-vendor xilinx.com -library hls -version 1.0} { if {![info exists opt($name)]} { set opt($name) $value } }
    if {![info exists opt(-ipname)]} { set opt(-ipname) $hls(top) }
    if {![regexp {^[0-9]+\.[0-9]+$} $opt(-version)]} { refuse "export_design -version expects two numbers, got $opt(-version)" }
    write_text $hls(project)/$hls(solution)/impl/ip/component.xml "$opt(-vendor):$opt(-library):$opt(-ipname):$opt(-version)"
}
