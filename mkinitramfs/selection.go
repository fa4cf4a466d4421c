package main

import (
	"path"
	"strings"

	"swarmboot/internal/drivers"
)

// Which drivers go into the archive: what a server or a desktop boots from, what a node's disk
// hangs on, and what its cable ends in. Which of them a node loads is decided on the node, by its devices.
// Left out for their size (see --extra-module): Fibre Channel (lpfc, qla2xxx, bfa), iSCSI and FCoE offload,
// NVMe over fabrics, nfp, liquidio, hinic, stmmac, UFS, and whatever needs PCMCIA.

// wantedFolders are taken whole.
var wantedFolders = []string{
	"kernel/drivers/ata",
	"kernel/drivers/virtio",
	"kernel/drivers/message/fusion",
	"kernel/drivers/net/ethernet/intel/e1000",
	"kernel/drivers/net/ethernet/intel/e1000e",
}

// wantedNames are taken one by one, by canonical name.
var wantedNames = names(
	// disks and their buses
	`sd_mod sr_mod sg nvme virtio_blk virtio_scsi xen_blkfront xen_scsifront vmw_pvscsi hv_storvsc
	 mpt3sas megaraid_sas megaraid_mbox megaraid_mm mpi3mr smartpqi hpsa aacraid arcmsr isci mvsas mvumi pm80xx
	 3w_9xxx 3w_sas hptiop stex ipr sym53c8xx am53c974 BusLogic vmd loop
	 mmc_block sdhci_pci sdhci_acpi
	 usb_storage uas xhci_pci xhci_pci_renesas ehci_pci ohci_pci uhci_hcd`,
	// software RAID, and logical volumes in several pieces
	`md_mod raid0 raid1 raid10 raid456 dm_mod`,
	// hypervisors
	`hv_vmbus hv_utils pci_hyperv xen_pcifront virtio_console virtio_rng virtio_input hyperv_keyboard`,
	// a keyboard for the rescue shell
	`usbhid hid_generic hid_hyperv atkbd i8042`,
	// file systems
	`ext4 vfat msdos xfs btrfs isofs efivarfs nls_cp437 nls_ascii nls_iso8859_1 nls_utf8 nls_cp850
	 crc32c_generic crc32c_intel crc32_pclmul crct10dif_pclmul crct10dif_generic crc64_rocksoft_generic
	 crc_t10dif xxhash_generic sha256_generic sha256_ssse3 blake2b_generic`,
	// network: virtual
	`af_packet virtio_net vmxnet3 hv_netvsc xen_netfront ena gve mana`,
	// network: Intel
	`igb igbvf igc ixgbe ixgbevf i40e iavf ice e100`,
	// network: Broadcom, Realtek, Mellanox, Marvell, Atheros and others
	`tg3 bnxt_en b44 r8169 8139too 8139cp mlx4_en mlx4_core mlx5_core sky2 skge mvneta
	 alx atl1 atl1c atl1e atl2 atlantic forcedeth sfc cxgb4 be2net enic
	 amd_xgbe pcnet32 jme tulip ne2k_pci via_rhine via_velocity sis900 sis190`,
	// network: PHYs
	`realtek broadcom bcm_phy_lib marvell marvell10g aquantia at803x smsc micrel icplus dp83867 vitesse fixed_phy`,
	// network: USB
	`cdc_ether cdc_ncm r8152 ax88179_178a asix smsc95xx smsc75xx lan78xx rndis_host aqc111`,
)

// needsFirmware are NICs that do nothing without firmware from outside the kernel. Debian has it in non-free-firmware, so
// they are taken only with --firmware.
var needsFirmware = names(`bnx2 bnx2x qede qed netxen_nic`)

// unwanted parts of the folders: they pull in PCMCIA, or probe hardware of the ISA age blindly.
var unwanted = names(`pata_pcmcia pata_legacy mptlan mptctl virtio_balloon virtio_mem virtio_pmem virtio_dma_buf`)

func names(lists ...string) map[string]bool {
	m := map[string]bool{}
	for _, l := range lists {
		for _, n := range strings.Fields(l) {
			m[drivers.Canonical(n)] = true
		}
	}
	return m
}

func isWanted(name string) bool { return wantedNames[name] }

// wanted says whether the module file at rel (below /lib/modules/VERSION) goes into the archive.
func wanted(rel string) bool {
	name := moduleName(rel)
	if unwanted[name] {
		return false
	}
	if wantedNames[name] {
		return true
	}
	for _, f := range wantedFolders {
		if strings.HasPrefix(path.Dir(rel)+"/", f+"/") {
			return true
		}
	}
	return false
}
